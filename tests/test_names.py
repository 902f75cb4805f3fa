"""Names say what they hold or do: hardly any bare participle or pronoun, and one meaning for each class name."""

import ast
import re
from collections import Counter
from pathlib import Path

import interleaver

ROOT = Path(interleaver.__file__).parent
PRONOUNS = [
    "all",
    "another",
    "any",
    "both",
    "each",
    "either",
    "else",
    "few",
    "here",
    "how",
    "it",
    "many",
    "more",
    "most",
    "neither",
    "none",
    "now",
    "one",
    "ones",
    "other",
    "others",
    "own",
    "same",
    "several",
    "some",
    "such",
    "that",
    "them",
    "then",
    "there",
    "these",
    "they",
    "this",
    "those",
    "what",
    "when",
    "where",
    "which",
    "who",
    "whom",
    "whose",
    "why",
]
PARTICIPLES = [
    "begun",
    "bought",
    "brought",
    "built",
    "caught",
    "chosen",
    "come",
    "cut",
    "done",
    "drawn",
    "driven",
    "fallen",
    "felt",
    "found",
    "frozen",
    "given",
    "gone",
    "got",
    "gotten",
    "heard",
    "held",
    "hidden",
    "hit",
    "kept",
    "known",
    "laid",
    "lost",
    "made",
    "meant",
    "met",
    "paid",
    "put",
    "said",
    "seen",
    "sent",
    "set",
    "shown",
    "sold",
    "sought",
    "spent",
    "spoken",
    "stolen",
    "stood",
    "struck",
    "sworn",
    "taken",
    "taught",
    "thought",
    "told",
    "torn",
    "understood",
    "woken",
    "won",
    "worn",
    "wound",
    "written",
]
"""Participles that do not end in -ed."""
NOT_PARTICIPLES = {"bed", "embed", "feed", "need", "red", "seed", "shed", "speed"}
FIELD_WORDS = {"before", "after", "accepted"}
"""What the critic compares, and what it says: the words of the field."""


def bound_names(tree):
    """Every name that a module binds: functions, classes, parameters, variables and attributes."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr
        elif isinstance(node, ast.ExceptHandler | ast.MatchAs | ast.MatchStar) and node.name:
            yield node.name


def is_vague(name):
    """Whether a name is one bare word that says how its value came, or points at it, and not what it is."""
    word = name.strip("_")
    if re.search(r"_|[a-z][A-Z]", word) or (name.startswith("__") and name.endswith("__")):
        return False
    word = word.lower()
    participle = word in PARTICIPLES or (re.fullmatch(r"\w{2,}ed", word) and word not in NOT_PARTICIPLES)
    return bool((participle or word in PRONOUNS) and word not in FIELD_WORDS)


def test_the_measure_knows_a_vague_name():
    vague = ["told", "found", "one", "_said", "received", "Told", "asked", "given", "others"]
    assert [name for name in vague if not is_vague(name)] == []
    clear = ["trace", "message", "seed", "needs_picture", "before", "AttemptStarted", "embed", "fetch_image", "red"]
    assert [name for name in clear if is_vague(name)] == []


def test_fewer_than_one_name_in_a_hundred_is_a_bare_participle_or_pronoun():
    names = [name for file in ROOT.rglob("*.py") for name in bound_names(ast.parse(file.read_text()))]
    vague = Counter(filter(is_vague, names))
    assert vague.total() < len(names) / 100, f"{vague.total()} of {len(names)}: {vague.most_common(20)}"


def test_a_class_name_has_one_meaning_in_the_whole_package():
    places = {}
    for file in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ClassDef):
                places.setdefault(node.name, []).append(str(file.relative_to(ROOT)))
    assert {name: files for name, files in places.items() if len(files) > 1} == {}
