"""What tests of benchmarks share: data as it is published, judges over HTTP, and the command."""

import json
import re

from click.testing import CliRunner

from interleaver.cli import main
from support.commands import COMMAND
from support.fakes import plain_picture
from support.scripted_server import chat_reply

EVAL_COMMAND = [*COMMAND, "eval"]
"""The command in a process of its own."""


def run(*arguments, code=0, **options):
    """`interleaver eval ...`; `code` is the exit code that is expected."""
    result = CliRunner().invoke(main, ["eval", *map(str, arguments)], catch_exceptions=False, **options)
    assert result.exit_code == code, result.output
    return result


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    return path


def write_picture(path, colour=(200, 30, 30), size=(64, 64)):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(plain_picture(colour, size).data)
    return path


def question_text(request):
    """The words of a request to the judge."""
    content = request.json["messages"][-1]["content"]
    return "".join(part["text"] for part in content if part["type"] == "text")


def picture_count(request):
    """How many pictures a request to the judge shows."""
    return sum(part["type"] == "image_url" for part in request.json["messages"][-1]["content"])


def judge_answering(answers):
    """A judge that answers by the first pattern which its question matches."""

    def reply(request):
        for pattern, answer in answers.items():
            if re.search(pattern, question_text(request)):
                return chat_reply(answer)
        raise AssertionError(question_text(request))

    return reply


def wise_rows(numbers):
    return [
        {
            "Prompt": f"prompt {number}",
            "Explanation": f"explanation {number}",
            "Category": "any",
            "Subcategory": "any",
            "prompt_id": number,
        }
        for number in numbers
    ]


def wise_data(folder, numbers, suffix="_verified"):
    """WISE as it is published: three files, of which the parts are question_text by number."""
    parts = {"cultural_common_sense": (1, 400), "spatio-temporal_reasoning": (401, 640), "natural_science": (641, 1000)}
    for stem, (first, last) in parts.items():
        rows = wise_rows([number for number in numbers if first <= number <= last])
        write_json(folder / "data" / f"{stem}{suffix}.json", rows)
    return folder
