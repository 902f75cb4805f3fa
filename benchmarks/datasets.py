"""Measure the speed and peak memory of building a dataset from traces, against a script that loads everything.

    python benchmarks/datasets.py [--sizes 1000 10000 100000] [--folder DIR]

Synthetic traces of realistic size (a plan of five steps, eight attempts, the full text of nine model calls, about 50 KB
of JSON) with pictures of a few KB are converted to a `critic-sft` dataset in Parquet. Each conversion runs in a process
of its own, and the peak memory is that of the process.
"""

import argparse
import hashlib
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from random import Random

TARGET_MIB = 500
PICTURES = 3000
NAIVE_LIMIT = 14 * 2**30
NAIVE = """
import json, pathlib, sys
from datasets import Dataset, Features, Image, List, Value
root, out = map(pathlib.Path, sys.argv[1:])
traces = [json.loads(file.read_text()) for file in sorted(root.glob("*/trace.json"))]
rows = []
for trace in traces:
    for attempt in trace["attempts"]:
        exchange = attempt["exchanges"][-1]
        pictures = []
        for ref in exchange["images"]:
            path = root / ".store" / "images" / ref["sha256"][:2] / (ref["sha256"] + ".png")
            pictures.append({"bytes": path.read_bytes(), "path": None})
        rows.append({"prompt": exchange["messages"][0]["content"], "answer": exchange["answer"], "images": pictures})
text = Value("string")
features = Features({"prompt": text, "answer": text, "images": List(Image())})
Dataset.from_list(rows, features=features).to_parquet(out / "train.parquet")
print(len(rows))
"""


def make_pictures(folder: Path) -> list[dict]:
    """Write small noisy pictures, each named by its hash, and return their references."""
    import numpy
    from PIL import Image

    from interleaver.pictures import Picture
    from interleaver.store.images import image_file_name

    random = numpy.random.default_rng(0)
    refs = []
    for _ in range(PICTURES):
        picture = Picture.encode(Image.fromarray(random.integers(0, 255, (32, 32, 3), dtype="uint8")).resize((48, 48)))
        path = folder / image_file_name(picture.ref)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture.data)
        refs.append(picture.ref.model_dump(mode="json"))
    return refs


def make_trace(number: int, refs: list[dict], words: list[str], random: Random) -> dict:
    """Return a trace in which three of five steps needed a second attempt."""
    from interleaver.agents.prompts import load_prompts, template_text
    from interleaver.agents.tagged import plan_question

    def prose(count: int) -> str:
        return " ".join(random.choices(words, k=count))

    request = f"{prose(12)} ({number})"
    steps = [
        {"number": n, "name": prose(3), "instruction": prose(25), "prompt": prose(40), "auxiliary_text": prose(30)}
        for n in range(1, 6)
    ]
    question = plan_question(load_prompts(), request, [])
    answer = json.dumps({"execution_plan": [{"step_number": s["number"], "step_name": s["name"], **{
        key: s[key] for key in ("instruction", "prompt", "auxiliary_text")}} for s in steps]})  # fmt: skip
    attempts, results, last = [], [], random.choice(refs)
    for position in range(5):
        tries = 2 if position < 3 else 1
        for attempt in range(1, tries + 1):
            image, accepted = random.choice(refs), attempt == tries
            verdict = {"previous_step_success": accepted, "refine_prompt": prose(40)}
            reasoning = prose(60) + (
                "" if accepted else f" But the {random.choice(('colour', 'size', 'place'))} is wrong."
            )
            question = load_prompts().review.replace("{answer_format}", template_text("verdict.tagged"))
            attempts.append({
                "step": position, "attempt": attempt, "prompt": steps[position]["prompt"], "seed": 1,
                "sources": [last], "image": image, "draw_seconds": 4.2, "judge_seconds": 1.3,
                "verdict": {"accepted": accepted, "refined_prompt": verdict["refine_prompt"], "reasoning": reasoning},
                "exchanges": [{
                    "role": "critic", "model": "critic", "images": [last, image], "seconds": 1.3,
                    "messages": [{"role": "user", "content": f"<image><image>\n{question}\n{prose(60)}"}],
                    "answer": f"<think>{reasoning}</think>\n<answer>\n{json.dumps(verdict)}\n</answer>",
                    "usage": {"input_tokens": 1500, "output_tokens": 180},
                }],
            })  # fmt: skip
        last = image
        results.append({"outcome": "accepted", "attempt": tries, "image": image})
    return {
        "version": 1, "run_id": f"run-{number:06}", "source": "run", "request": request, "settings": {"seed": number},
        "tags": {"category": random.choice(words)}, "models": {"planner": "p", "critic": "c", "generator": "g"},
        "status": "complete", "plan": {"steps": steps, "reasoning": prose(120)}, "attempts": attempts,
        "results": results, "plan_exchanges": [{
            "role": "planner", "model": "planner", "messages": [{"role": "user", "content": question}], "seconds": 8.0,
            "answer": f"<think>{prose(200)}</think>\n<answer>\n{answer}\n</answer>",
        }],
    }  # fmt: skip


def make_runs(folder: Path, count: int) -> int:
    """Write a run store with `count` runs and return the total size of its traces in bytes."""
    random = Random(0)
    refs = make_pictures(folder / ".store" / "images")
    words = [hashlib.sha256(str(n).encode()).hexdigest()[: 3 + n % 7] for n in range(4000)]
    size = 0
    for number in range(count):
        trace = make_trace(number, refs, words, random)
        run = folder / trace["run_id"]
        run.mkdir(parents=True)
        record = {"run_id": trace["run_id"], "thread": "t", "request": trace["request"], "images": [], "context": {},
                  "profile": None, "started_at": "2026-01-01T00:00:00Z"}  # fmt: skip
        (run / "run.json").write_text(json.dumps(record))
        text = json.dumps(trace)
        (run / "trace.json").write_text(text)
        size += len(text)
    return size


def measure_command(command: list[str], limit: int | None = None) -> tuple[float, float, str]:
    """Run a command; return its duration in seconds, its peak memory in MiB and the last line of its output.

    With a limit (address space in bytes), the output of a command that fails is "out of memory".
    """
    started = time.monotonic()

    def hold() -> None:
        if limit:
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))

    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, preexec_fn=hold)
    output, problem = process.communicate()
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    if process.returncode:
        output = "out of memory" if limit else problem[-2000:]
    return time.monotonic() - started, peak, output.strip().splitlines()[-1]


def run_one(folder: Path, out: Path, naive: bool) -> None:
    """Run one conversion as the only child of this process, so that the measured peak is that of the conversion."""
    out.mkdir(parents=True)
    if naive:
        seconds, peak, output = measure_command([sys.executable, "-c", NAIVE, str(folder), str(out)], NAIVE_LIMIT)
        rows = int(output) if output.isdigit() else output
    else:
        command = [
            sys.executable,
            "-m",
            "interleaver.cli",
            "data",
            "critic-sft",
            str(folder),
            "--out",
            str(out / "d"),
            "--json",
        ]
        seconds, peak, output = measure_command([*command, "--balance", "none"])
        report = json.loads((out / "d" / "dataset.json").read_text())
        rows = sum(split["rows"] for split in report["splits"].values())
    print(json.dumps({"seconds": seconds, "peak": peak, "rows": rows}))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sizes", type=int, nargs="+", default=[1000, 10000, 100000])
    parser.add_argument("--folder", type=Path, help="Parent of the temporary working folder; default: the system's.")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        return run_one(Path(options.one[0]), Path(options.one[1]), options.one[2] == "naive")
    root = Path(tempfile.mkdtemp(dir=options.folder))
    worst = 0.0
    print(f"{'traces':>8} {'JSON':>8}  {'':10} {'rows':>9} {'seconds':>8} {'rows/s':>7} {'peak MiB':>9}")
    for size in options.sizes:
        folder = root / str(size)
        size_in_bytes = make_runs(folder, size)
        for how in ("streamed", "naive"):
            command = [sys.executable, __file__, "--one", str(folder), str(root / f"{how}-{size}"), how]
            result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            rate = f"{result['rows'] / result['seconds']:7.0f}" if isinstance(result["rows"], int) else "      -"
            megabytes = size_in_bytes / 2**20
            print(f"{size:>8} {megabytes:>5.0f} MB  {how:10} {result['rows']:>9} {result['seconds']:>8.1f} {rate} "
                  f"{result['peak']:>9.0f}", flush=True)  # fmt: skip
            worst = max(worst, result["peak"] if how == "streamed" else 0)
            shutil.rmtree(root / f"{how}-{size}")
        shutil.rmtree(folder)
    shutil.rmtree(root)
    if worst > TARGET_MIB:
        sys.exit(f"the peak memory of a conversion is {worst:.0f} MiB; the limit is {TARGET_MIB} MiB")


if __name__ == "__main__":
    os.environ.setdefault("TQDM_DISABLE", "1")
    main()
