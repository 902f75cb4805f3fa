"""Choices that users make by name.

The command line lists them in its help without loading the modules that implement them, so they are defined here.
"""

from __future__ import annotations

from typing import Literal

AnswerFormat = Literal["tagged", "structured"]
"""Wire format of a model's answers: tagged text, as the fine-tuned models write it, or JSON that follows a schema."""

LabelSource = Literal["judge", "critic"]
"""Kind of backend that labels stored attempts."""

DatasetKind = Literal["planner-sft", "critic-sft", "critic-rl", "sequences"]
DatasetFormat = Literal["hf", "llamafactory", "verl", "jsonl"]
RunFilter = Literal["complete", "ended"]
"""Which runs contribute rows to a dataset."""
AttemptFilter = Literal["proven", "all"]
"""Which rejections count: only those followed by an accepted attempt (`proven`), or all."""
SequenceMode = Literal["easy", "hard"]
"""Content of a sequence: accepted pictures only (`easy`), or every attempt with the critic's feedback (`hard`)."""
Balance = Literal["verdicts", "kinds", "categories"]
"""Groups over which the rows of a dataset are balanced."""

FormatRule = Literal["strict", "official"]
"""Which answers of a critic count as well-formed in GRPO: this package's rule, or that of the released reward."""
TrainingTask = Literal["sft-planner", "sft-critic", "grpo-critic", "grpo-planner"]

SystemName = Literal["graph", "generator"]
"""What a benchmark evaluates: the whole graph, or its generator alone."""
SandboxLevel = Literal["full", "miniature"]
"""Part of the sandbox world that requests may use."""
AblationPart = Literal["planner", "critic", "generator", "attempts", "references", "on_exhausted"]
"""The part of the configuration that an ablation varies."""

BENCHMARK_HELP = {
    "wise-verified": "WISE, current protocol: one yes/no score per picture.",
    "wise-legacy": "WISE, original protocol: three scores per picture.",
    "ueval": "UEval: answers of text and pictures, scored against rubrics.",
    "risebench": "RISEBench: image edits that require reasoning.",
    "comm-task1": "CoMM task 1: write the texts for a sequence of pictures.",
    "comm-task2": "CoMM task 2: draw the pictures for a sequence of texts.",
    "comm-task3": "CoMM task 3: continue a document of text and pictures.",
    "comm-task4": "CoMM task 4: make a document of text and pictures from its title.",
}
"""The benchmarks by name, with the first line of each command's help."""
