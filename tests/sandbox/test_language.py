import io

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings
from PIL import Image

from interleaver.sandbox.generator import FAULTLESS, SandboxGenerator
from interleaver.sandbox.language import Add, Backdrop, Instructions, Recolour, Remove, describe
from interleaver.sandbox.primer import backgrounds, plural_of, subjects
from interleaver.sandbox.reading import parse, unknown_things
from interleaver.sandbox.world import COLOURS, PLACES, RELATIONS, SIZES

kinds = st.sampled_from(sorted(subjects()))
colours = st.sampled_from(sorted(COLOURS))


@st.composite
def additions(draw):
    kind = draw(kinds)
    subject = subjects()[kind]
    part = draw(st.none() | st.sampled_from([part.name for part in subject.parts])) if not subject.is_shape else None
    count = 1 if part else draw(st.integers(1, 6))
    size, colour = draw(st.none() | st.sampled_from(sorted(SIZES))), draw(st.none() | colours)
    where = draw(st.sampled_from(["place", "relation", "open"]))
    place = draw(st.sampled_from(sorted(PLACES))) if where == "place" else None
    relation, anchor = (draw(st.sampled_from(sorted(RELATIONS))), draw(kinds)) if where == "relation" else (None, None)
    stated = {"kind"}
    stated |= {"count"} if count > 1 else set()
    stated |= {"size"} if size else set()
    stated |= {"colour"} if colour else set()
    stated |= {"place"} if where != "open" or part else set()
    emphasis = frozenset(draw(st.sets(st.sampled_from(sorted(stated)))))
    return Add(kind, part, count, size, colour, place, relation, anchor, emphasis)


done = st.sampled_from([frozenset(), frozenset({"done"})])
operations = st.one_of(
    additions(),
    st.builds(Recolour, kinds, colours, st.sampled_from([frozenset(), frozenset({"colour"})])),
    st.builds(Remove, kinds, done),
    st.builds(Backdrop, st.sampled_from(sorted(backgrounds())), done),
)
instructions = st.builds(Instructions, st.lists(operations, min_size=1, max_size=4).map(tuple), careful=st.booleans())


@settings(max_examples=500, deadline=None)
@given(instructions)
def test_what_is_described_is_read_back_the_same(asked):
    assert parse(describe(asked)) == asked


@settings(max_examples=25, deadline=None)
@given(instructions)
async def test_what_is_described_is_drawn_the_same(asked):
    """Loosely written English and the canonical description of what was read from it give the same scene."""
    loose = describe(asked).lower().replace("draw", "please add").replace("a large", "a big").replace(".", " !")
    generator = SandboxGenerator(FAULTLESS)
    first = await generator.generate(loose, [], 7, (96, 96))
    second = await generator.generate(describe(parse(loose)), [], 7, (96, 96))
    assert parse(loose) == asked
    assert pixels(first) == pixels(second)


def pixels(picture):
    return Image.open(io.BytesIO(picture.data)).tobytes()


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=200))
def test_any_text_can_be_read(text):
    parse(text)
    unknown_things(text)


@pytest.mark.parametrize(
    ("text", "asked"),
    [
        ("a big orange cat", Add("cat", size="large", colour="orange")),
        ("Please draw two little gray mice!", Add("mouse", count=2, size="small", colour="grey")),
        ("add a sun in the top right corner", Add("sun", place="top right")),
        ("a tiny bird on top of the house", Add("bird", size="tiny", relation="above", anchor="house")),
        ("The ears of the cat", Add("cat", part="ears")),
        ("Make the house blue", Recolour("house", "blue")),
        ("turn the cat purple", Recolour("cat", "purple")),
        ("Erase the clouds", Remove("cloud")),
        ("a hot air balloon", Add("hot-air balloon")),
        ("a Hot-Air-Balloon", Add("hot-air balloon")),
        ("a snow-man", Add("snowman")),
        ("a pinetree", Add("pine tree")),
        ("a ladybug", Add("ladybird")),
        ("three puppies", Add("dog", count=3)),
        ("two boxes", Add("square", count=2)),
        ("at night", Backdrop("a night sky")),
        ("under the sea", Backdrop("deep water")),
    ],
)
def test_looser_english(text, asked):
    assert parse(text).operations == (asked,)


@pytest.mark.parametrize("subject", subjects().values(), ids=lambda subject: subject.name)
def test_every_name_is_understood_in_any_spelling(subject):
    for name in (*subject.names, subject.plural, *map(plural_of, subject.names)):
        for spelling in (name, name.upper(), name.replace(" ", "-"), name.replace("-", " ")):
            assert [operation.kind for operation in parse(f"the {spelling}").operations] == [subject.name]


def test_unknown_words_are_skipped():
    assert parse("xyzzy the frobnicator").operations == ()


@pytest.mark.parametrize(
    ("text", "strange"),
    [
        ("How to draw a dragon step by step?", ["dragon"]),
        ("a cat and a unicorn in the garden", ["unicorn"]),
        ("How to draw a cute cat for my kids", []),
        ("An illustrated story about a robot", []),
        ("two purple wombats", ["wombats"]),
    ],
)
def test_unknown_things_are_named(text, strange):
    assert unknown_things(text) == strange
