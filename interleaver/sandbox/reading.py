"""Parse the drawing language: from English to operations.

The parser understands much looser English than the canonical sentences: attributes may be left out, and words that are
not in the lexicon are skipped.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cache

from interleaver.sandbox.language import COUNTS, MAX_COUNT, Add, Backdrop, Instructions, Operation, Recolour, Remove
from interleaver.sandbox.primer import backgrounds, plural_of, subjects
from interleaver.sandbox.world import COLOURS, PLACES, SIZES


@dataclass
class Noun:
    """A noun phrase as parsed, before it is turned into an operation; `bare` is set for a plural without a number."""

    kind: str
    part: str | None = None
    count: int = 1
    bare: bool = False
    size: str | None = None
    colours: list[str] = field(default_factory=list)
    definite: bool = False


@dataclass(frozen=True)
class Mark:
    """Any phrase other than a noun phrase, such as a place, a relation, a background, a colour or an unknown word.

    Attributes:
        role: one of place, relation, background, colour, size, count, definite, plural, variety, and, word.
        value: meaning of the phrase, such as the name of the place; the word itself for an unknown word.
    """

    role: str
    value: str


NEAREST_COLOURS = {
    "gray": "grey", "silver": "grey", "violet": "purple", "lilac": "purple", "golden": "yellow", "gold": "yellow",
    "turquoise": "blue", "cyan": "blue", "navy": "blue", "teal": "green", "lime": "green", "olive": "green",
    "beige": "brown", "tan": "brown", "magenta": "pink", "crimson": "red", "scarlet": "red", "maroon": "red",
    "cream": "white",
}  # fmt: skip


@cache
def _lexicon() -> dict[str, Mark | str]:
    """Return the meanings of all phrases by their letters: the proper name of a subject, or a `Mark`.

    Spaces and hyphens do not count, so "hot-air balloon" is found in "hot air balloon", and "snowman" in "snow-man".
    """
    lexicon: dict[str, Mark | str] = {}

    def add(phrase: str, meaning: Mark | str) -> None:
        lexicon["".join(_tokens(phrase))] = meaning

    for background in backgrounds().values():
        for phrase in background.phrases:
            add(phrase, Mark("background", background.name))
            add(f"on {phrase}", Mark("background", background.name))
    for subject in subjects().values():
        for name in subject.names:
            add(name, subject.name)
            add(plural_of(name), Mark("plural", subject.name))
        add(subject.plural, Mark("plural", subject.name))
        if subject.plural == subject.name:
            add(subject.name, subject.name)
    for colour in COLOURS:
        add(colour, Mark("colour", colour))
    for word, colour in NEAREST_COLOURS.items():
        add(word, Mark("colour", colour))
    for size in SIZES:
        add(size, Mark("size", size))
    for word, size in {
        "big": "large", "little": "small", "giant": "huge", "enormous": "huge", "mid-sized": "medium",
        "medium-sized": "medium", "tall": "large", "miniature": "tiny",
    }.items():  # fmt: skip
        add(word, Mark("size", size))
    for number, word in enumerate(COUNTS):
        add(word, Mark("count", str(number)))
        add(str(number), Mark("count", str(number)))
    larger = ("seven", "eight", "nine", "ten", "eleven", "twelve")
    for number, word in enumerate(larger, start=MAX_COUNT + 1):
        add(word, Mark("count", str(number)))
    for number in range(MAX_COUNT + 1, 100):
        add(str(number), Mark("count", str(number)))
    for word, number in {"a": 1, "an": 1, "another": 1, "a pair of": 2, "a couple of": 2, "a few": 3, "some": 3,
                         "several": 4, "many": 5, "a dozen": 12, "dozens of": 12}.items():  # fmt: skip
        add(word, Mark("count", str(number)))
    for word in ("the", "this", "that", "its", "his", "her"):
        add(word, Mark("definite", word))
    for place in PLACES:
        for opening in ("in the", "at the", "on the", "to the", "towards the"):
            add(f"{opening} {place}", Mark("place", place))
            add(f"{opening} {place} corner", Mark("place", place))
    for opening in ("in the", "at the"):
        add(f"{opening} centre", Mark("place", "middle"))
        add(f"{opening} center", Mark("place", "middle"))
    for side in ("left", "right"):
        add(f"on the {side} side", Mark("place", side))
        for opening in ("to the", "on the", ""):
            add(f"{opening} {side} of", Mark("relation", f"{side} of"))
    for phrase, relation in {
        "above": "above", "over": "above", "on top of": "above", "below": "below", "under": "below",
        "beneath": "below", "underneath": "below", "beside": "beside", "next to": "beside",
        "near": "beside", "with": "and", "and": "and", "in front of": "beside", "behind": "beside",
    }.items():  # fmt: skip
        add(phrase, Mark("and" if relation == "and" else "relation", relation))
    for phrase in ("in different colours", "in different colors", "of different colours", "of different colors",
                   "in various colours", "in various colors", "colourful", "colorful"):  # fmt: skip
        add(phrase, Mark("variety", "colours"))
    add("step by step", Mark("word", "step by step"))
    return lexicon


LONGEST_PHRASE = 5


REPLACING = re.compile(r"\b(?:replace|swap)\s(.{1,80}?)\s(?:with|by|for)\s", re.IGNORECASE)
CLAUSE_JOINT = re.compile(
    r",?\s(?:and|then|and then)\s(?=(?:remove|erase|delete|paint|recolou?r|turn|make|draw|add|put|replace)\b)",
    re.IGNORECASE,
)


def _tokens(text: str) -> list[str]:
    return re.findall(r"[a-z0-9][a-z0-9']*|[,;:]", text.lower().replace("\u2019", "'"))


def squeeze(text: str) -> str:
    """Replace each run of white space by one line break or space, so that no pattern tries all ways through it."""
    return re.sub(r"\s{2,}", lambda run: "\n" if "\n" in run[0] else " ", text)


def sentences(text: str) -> list[str]:
    """Split a text into sentences; a clause with a verb of its own counts as one, a replacement as two."""
    text = squeeze(text)
    text = REPLACING.sub(r"Remove \1. Draw ", text)
    text = CLAUSE_JOINT.sub(". ", text)
    return [part.strip() for part in re.split(r"[.!?\n]+", text) if part.strip()]


def phrases(text: str) -> Iterator[Noun | Mark]:
    """Yield the noun phrases and other phrases of a sentence in order, preferring the longest match.

    An unknown word is yielded as `Mark("word", ...)`.
    """
    tokens = _tokens(text)
    pending = Noun("")
    position = 0
    while position < len(tokens):
        part = _part_phrase(tokens, position)
        if part:
            pending.part, position = part
            continue
        meaning, length = _match(tokens, position)
        position += length
        if isinstance(meaning, str) or meaning.role == "plural":
            plural = isinstance(meaning, Mark)
            pending.kind = meaning.value if isinstance(meaning, Mark) else meaning
            if plural and pending.count == 1 and not pending.definite:
                pending.count, pending.bare = 2, True
            if pending.count > 0:  # "no clouds" asks for nothing
                yield pending
            pending = Noun("")
        elif meaning.role == "count":
            pending.count = int(meaning.value)
        elif meaning.role == "definite":
            pending.definite = True
        elif meaning.role in ("size", "colour"):
            if meaning.role == "size":
                pending.size = meaning.value
            else:
                pending.colours.append(meaning.value)
            # An attribute matters without a noun, too: "Paint the house blue", "It must be large".
            yield meaning
        else:
            if meaning.role not in ("word", "variety"):
                pending = Noun("")
            yield meaning


def _match(tokens: list[str], start: int) -> tuple[Mark | str, int]:
    for length in range(min(LONGEST_PHRASE, len(tokens) - start), 0, -1):
        meaning = _lexicon().get("".join(tokens[start : start + length]))
        if meaning is not None:
            return meaning, length
    return Mark("word", tokens[start]), 1


def _part_phrase(tokens: list[str], start: int) -> tuple[str, int] | None:
    """Return the part in "the front legs of a large orange cat" and the position after "of"; None if there is none."""
    if tokens[start] != "the":
        return None
    for end in range(start + 2, min(start + 6, len(tokens) - 1)):
        if tokens[end] != "of":
            continue
        name = " ".join(tokens[start + 1 : end])
        for after in range(end + 1, min(end + 6, len(tokens))):
            meaning, _ = _match(tokens, after)
            kind = meaning if isinstance(meaning, str) else ""
            if kind and any(part.name == name for part in subjects()[kind].parts):
                return name, end + 1
    return None


REMOVING = re.compile(r"\b(remove|erase|delete|take away|get rid of)\b")
PAINTING = re.compile(r"\b(paint|recolou?r|colou?r|turn|make|change)\b")
KEEPING = re.compile(r"\b(keep|leave)\b.{0,80}\b(everything|all|rest)\b")
EMPHASIS = re.compile(r"\b(must|should|has to|make sure|exactly)\b")


def parse(text: str) -> Instructions:
    """Parse a prompt or an instruction; attributes that it leaves open are None, and unknown words are skipped."""
    operations: list[Operation] = []
    careful = False
    for sentence in sentences(text):
        lower_sentence = sentence.lower()
        sentence_phrases = list(phrases(sentence))
        nouns = [item for item in sentence_phrases if isinstance(item, Noun)]
        if KEEPING.search(lower_sentence):
            careful = True
        elif EMPHASIS.search(lower_sentence) and operations:
            operations[-1] = _emphasise(operations[-1], sentence_phrases)
        elif REMOVING.search(lower_sentence):
            operations += [Remove(noun.kind) for noun in nouns]
        elif _repaints(lower_sentence, sentence_phrases, nouns):
            colour = next(
                item.value for item in reversed(sentence_phrases) if isinstance(item, Mark) and item.role == "colour"
            )
            operations += [Recolour(noun.kind, colour) for noun in nouns]
        else:
            operations += read_scene(sentence_phrases)
    return Instructions(tuple(operations), careful)


def _repaints(sentence: str, sentence_phrases: list[Noun | Mark], nouns: list[Noun]) -> bool:
    last_is_colour = (
        bool(sentence_phrases) and isinstance(sentence_phrases[-1], Mark) and sentence_phrases[-1].role == "colour"
    )
    return bool(PAINTING.search(sentence)) and last_is_colour and bool(nouns)


def _emphasise(operation: Operation, sentence_phrases: list[Noun | Mark]) -> Operation:
    """Add the emphasis of an "It must be ..." sentence to an operation, and fill open attributes from it."""
    marks = {item.role: item.value for item in sentence_phrases if isinstance(item, Mark)}
    words = {item.value for item in sentence_phrases if isinstance(item, Mark) and item.role == "word"}
    emphasis = set(operation.emphasis)
    if not isinstance(operation, Add):
        emphasis |= {"colour"} if "colour" in marks else {"done"}
        return replace(operation, emphasis=frozenset(emphasis))
    if any(isinstance(item, Noun) and item.kind == operation.kind for item in sentence_phrases) and "clearly" in words:
        emphasis.add("kind")
    if "exactly" in words:
        emphasis.add("count")
    if "colour" in marks:
        emphasis.add("colour")
        operation = replace(operation, colour=operation.colour or marks["colour"])
    if "size" in marks:
        emphasis.add("size")
        operation = replace(operation, size=operation.size or marks["size"])
    if "place" in marks or "relation" in marks or "proper" in words:
        emphasis.add("place")
    return replace(operation, emphasis=frozenset(emphasis))


def read_scene(sentence_phrases: list[Noun | Mark]) -> list[Operation]:
    """Return the operations that draw the things and the background in a sentence."""
    operations: list[Operation] = []
    relation: str | None = None
    for item in sentence_phrases:
        if isinstance(item, Noun):
            if relation and operations and isinstance(operations[-1], Add) and item.definite:
                operations[-1] = replace(operations[-1], relation=relation, anchor=item.kind)
            else:
                operations.append(_add(item))
            relation = None
        elif item.role == "background":
            operations.append(Backdrop(item.value))
        elif item.role == "place" and operations and isinstance(operations[-1], Add):
            operations[-1] = replace(operations[-1], place=item.value)
        elif item.role == "relation":
            relation = "right of" if item.value == "beside" else item.value
    return operations


def _add(noun: Noun) -> Add:
    return Add(
        kind=noun.kind,
        part=noun.part,
        count=1 if noun.part else max(1, min(noun.count, MAX_COUNT)),
        size=noun.size,
        colour=noun.colours[-1] if noun.colours else None,
    )


STOPS = frozenset(
    [
        "for",
        "with",
        "and",
        "or",
        "in",
        "on",
        "at",
        "by",
        "to",
        "of",
        "that",
        "who",
        "which",
        "from",
        "into",
        "as",
        "about",
        ",",
        ";",
        ":",
        "is",
        "are",
        "was",
        "be",
        "step",
        "steps",
    ]
)
NOT_THINGS = frozenset(
    [
        "picture",
        "pictures",
        "image",
        "images",
        "drawing",
        "drawings",
        "tutorial",
        "guide",
        "lesson",
        "story",
        "scene",
        "illustration",
        "comic",
        "cartoon",
        "strip",
        "sequence",
        "sketch",
        "way",
        "step",
        "steps",
        "page",
        "document",
        "beginner",
        "beginners",
        "series",
        "line",
        "look",
        "time",
        "bit",
        "lot",
        "set",
        "simple",
        "easy",
        "cute",
        "nice",
        "short",
        "happy",
        "little",
        "funny",
        "good",
        "beautiful",
    ]
)


def unknown_things(text: str) -> list[str]:
    """Return the noun phrases that name nothing in the primer.

    A noun phrase begins after an article or a number and ends before the next function word (`STOPS`).
    """
    unknown_phrases = []
    for sentence in sentences(text):
        tokens = _tokens(sentence)
        for start, token in enumerate(tokens):
            meaning, length = _match(tokens, start)
            if not (isinstance(meaning, Mark) and meaning.role == "count" and length == 1) or token == "no":
                continue
            words = _unknown_phrase(tokens, start + 1)
            if words:
                unknown_phrases.append(" ".join(words))
    return unknown_phrases


def _unknown_phrase(tokens: list[str], start: int) -> list[str]:
    """Return the unknown words of the noun phrase at `start`; empty if it names something known."""
    words: list[str] = []
    position = start
    while position < len(tokens) and tokens[position] not in STOPS:
        meaning, length = _match(tokens, position)
        if isinstance(meaning, str) or meaning.role in ("plural", "background", "place", "variety", "count"):
            return []
        if meaning.role == "relation":
            break
        if meaning.role == "word" and length == 1:
            words.append(tokens[position])
        position += length
    return words if words and words[-1] not in NOT_THINGS else []
