"""LaTeX and paths whose backslashes a model did not double, in both quote styles."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interleaver.agents import parse_plan, parse_verdict

COMMANDS = """
alpha beta gamma delta epsilon zeta eta theta iota kappa lambda mu nu xi pi rho sigma tau upsilon
phi chi psi omega frac sqrt times div cdot pm neq leq geq approx equiv infty nabla partial sum prod
int lim log sin cos tan vec hat bar tilde overline underline text mathrm mathbf left right begin
end forall exists notin in subset cup rightarrow Rightarrow to mapsto langle rangle lfloor rfloor
binom boldsymbol triangle ne not neg
"""
TEXTS = [r"\(\%s\)", r"$\%s$", r"$x = \%s{1}$", r"Show $a \%s b$ in red", r"$$\%s_1 + \%s_2$$"]


def written(text, quote, bare=False):
    """A plan as a model writes it that does not double backslashes."""
    q = quote
    return (
        f"{{{q}execution_plan{q}: [{{{q}step_number{q}: 1, {q}instruction{q}: {q}{text}{q}, {q}prompt{q}: {q}p{q}}}]}}"
    )


@pytest.mark.parametrize("quote", ['"', "'"])
@pytest.mark.parametrize("template", TEXTS)
@pytest.mark.parametrize("command", re.findall(r"\w+", COMMANDS))
def test_a_command_is_read_as_it_was_meant(command, template, quote):
    text = template.replace("%s", command)
    assert parse_plan(written(text, quote)).steps[0].instruction == text


@pytest.mark.parametrize("quote", ['"', "'"])
@pytest.mark.parametrize(
    "text",
    [
        r"Write \frac{1}{2} \times \theta",
        r"\alpha and then \nu and \ne",
        r"\beta, \nu",
        r"Open C:\new\temp\folder",
        r"Copy D:\reports\new\beta.txt to E:\tmp",
        r"Save as C:\Users\name",
        r"a \textbf{bold} word",
        r"\begin{matrix} a & b \end{matrix}",
        r"100\% of \$5 and \_x\_",
    ],
)
def test_texts_without_marks_of_mathematics(text, quote):
    assert parse_plan(written(text, quote)).steps[0].instruction == text


@pytest.mark.parametrize(
    "text",
    [
        "First line\nu is the second",
        "Option A:\nDraw a cat",
        "Mix:\n\nto the end\n\topen it\n\tan apple",
        "a\tb\tc\nnot yet",
        r"$\frac{1}{2}$" "\nu is the speed",
        r"$\alpha$" "\nis a letter\n\topen",
        "note:\nnext",
        "Add salt\nto taste",
        "\r\nr\nright",
    ],
)
def test_new_lines_and_tabs_that_were_escaped_properly_stay(text):
    answer = json.dumps({"execution_plan": [{"instruction": text, "prompt": "p"}]})
    assert parse_plan(answer).steps[0].instruction == text
    assert parse_plan(f"<think>so</think><answer>{answer}</answer>").steps[0].instruction == text


@given(st.text(st.sampled_from(list("ab nu\n\t\\$xfrac{}te")), max_size=30))
def test_doubled_backslashes_before_commands_are_never_changed(text):
    verdict = parse_verdict(json.dumps({"previous_step_success": False, "refine_prompt": f"\\alpha {text}"}))
    assert verdict.refined_prompt.replace("\\n", "\n").replace("\\t", "\t") == f"\\alpha {text}".replace(
        "\\n", "\n"
    ).replace("\\t", "\t")
