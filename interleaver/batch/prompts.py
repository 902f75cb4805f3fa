"""Prompt lists: diverse requests from a taxonomy, by templates or written by a chat model."""

from __future__ import annotations

import itertools
import re
import sqlite3
import tomllib
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import fields
from pathlib import Path
from random import Random

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from interleaver.agents.answers import read_literal_in
from interleaver.agents.conversation import Ask, ChatModel, Conversation
from interleaver.agents.prompts import fill, text_of
from interleaver.batch.items import Row
from interleaver.batch.work import in_parallel
from interleaver.config import BackendSettings
from interleaver.errors import BackendError, BadInput, UnreadableAnswer, did_you_mean, explain
from interleaver.similar import SimilarTexts

PATIENCE = 30
"""How many candidates in a row may be near-duplicates before a taxonomy counts as used up."""
WORKERS = 4
A_CALL = 10
"""Requests that a chat model is asked for at a time."""
REQUESTS_SCHEMA = {
    "title": "requests",
    "description": "Requests for illustrated documents.",
    "type": "object",
    "properties": {"requests": {"type": "array", "items": {"type": "string"}}},
    "required": ["requests"],
    "additionalProperties": False,
}
_SLOT = re.compile(r"\{(\w+)\}")


class SubCategory(BaseModel):
    """A part of a category: what its requests may be about."""

    model_config = ConfigDict(extra="forbid")

    name: str
    topics: list[str] = Field(min_length=1)


class Category(BaseModel):
    """A kind of request: sentences with a `{topic}`, and the topics by sub-category."""

    model_config = ConfigDict(extra="forbid")

    name: str
    description: str = ""
    templates: list[str] = Field(min_length=1)
    sub: list[SubCategory] = Field(min_length=1)


class Taxonomy(BaseModel):
    """What a prompt list is drawn from.

    Attributes:
        languages: what is appended to a request so that its texts come in that language.
        slots: lists that templates and topics may use as `{name}`.
    """

    model_config = ConfigDict(extra="forbid")

    languages: dict[str, str] = Field(default_factory=lambda: {"en": ""})
    slots: dict[str, list[str]] = Field(default_factory=dict)
    category: list[Category] = Field(min_length=1)

    @model_validator(mode="after")
    def _slots_exist(self) -> Taxonomy:
        for name, values in self.slots.items():
            if any(_SLOT.search(value) for value in values):
                raise ValueError(f"slot {name!r}: its values must not use slots in turn")
        for category in self.category:
            texts = category.templates + [topic for sub in category.sub for topic in sub.topics]
            for text, name in ((one, name) for one in texts for name in _SLOT.findall(one)):
                if name != "topic" and not self.slots.get(name):
                    hint = did_you_mean(name, [*self.slots, "topic"])
                    raise ValueError(f"category {category.name!r}: {text!r} uses {{{name}}}, which is no slot{hint}")
        return self


def ready_taxonomies() -> dict[str, Path]:
    """The taxonomies that come with this package, by name."""
    folder = Path(__file__).with_name("taxonomies")
    return {file.stem: file for file in sorted(folder.glob("*.toml"))}


def load_taxonomy(name: str) -> Taxonomy:
    """Read a taxonomy.

    Args:
        name: of one that comes with this package, or a TOML file.

    Raises:
        BadInput: it cannot be read, or something in it is wrong.
    """
    path = Path(name) if Path(name).exists() else ready_taxonomies().get(name, Path(name))
    try:
        return Taxonomy.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        ready = ", ".join(ready_taxonomies())
        raise BadInput(f"there is no taxonomy {name!r}; give a file or one of: {ready}") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadInput(f"the taxonomy {name!r} cannot be read: {error}") from None
    except ValidationError as error:
        raise BadInput(f"the taxonomy {name!r}: {explain(error)}") from None


class Sampler:
    """Draws requests, evenly over the categories and their parts, and no two that are nearly the same."""

    def __init__(
        self,
        taxonomy: Taxonomy,
        languages: Sequence[str] = ("en",),
        categories: Sequence[str] = (),
        seed: int = 0,
        similarity: float = 0.9,
    ):
        """Set up a sampler.

        Args:
            taxonomy: what to draw from.
            languages: of the requests' texts, in turn.
            categories: which ones; all by default.
            seed: the same seed draws the same requests.
            similarity: 0 to 1, from which on two requests are nearly the same.

        Raises:
            BadInput: a language or a category is unknown.
        """
        names = [category.name for category in taxonomy.category]
        for what, wanted, known in (
            ("language", languages, list(taxonomy.languages)),
            ("category", categories, names),
        ):
            for name in wanted:
                if name not in known:
                    hint = did_you_mean(name, known)
                    raise BadInput(f"the taxonomy has no {what} {name!r}{hint}; it has: {', '.join(known)}")
        self.taxonomy = taxonomy
        self.languages = languages
        self._random = Random(seed)
        self._chosen = [category for category in taxonomy.category if category.name in (categories or names)]
        self._seen = SimilarTexts(sqlite3.connect(":memory:"), similarity)

    def by_templates(self, count: int) -> Iterator[Row]:
        """At most `count` requests; fewer when the taxonomy has no more that differ."""
        made = rejected = 0
        for category, sub, language in self._places():
            if made >= count or rejected >= PATIENCE * len(self._chosen):
                return
            row = self._fill(category, sub, language)
            _, new = self._seen.number(row.request)
            made, rejected = (made + 1, 0) if new else (made, rejected + 1)
            if new:
                yield row

    async def by_model(self, count: int, planner: BackendSettings) -> AsyncIterator[Row]:
        """At most `count` requests that a chat model writes.

        Args:
            count: how many.
            planner: the profile's planner, a `chat` backend; its model writes, with as many calls at a time as its
                `concurrency` says.

        Raises:
            BadInput: the planner is no chat model.
            BackendError: one call after another failed.
        """
        conversation = Conversation(_chat_model(planner), "planner")
        made = empty = failed = 0
        workers = planner.concurrency or WORKERS

        async def write(place: tuple[Category, SubCategory, str]) -> list[Row] | BackendError:
            try:
                return await self._write(conversation, *place)
            except BackendError as error:
                return error

        places = itertools.islice(self._places(), 4 * count // A_CALL + 4 * workers)
        async for rows in in_parallel(places, write, workers):
            if isinstance(rows, BackendError):
                failed += 1
                if failed > workers:
                    raise rows
                continue
            new = [row for row in rows if self._seen.number(row.request)[1]]
            failed, empty = 0, 0 if new else empty + 1
            for row in new[: count - made]:
                made += 1
                yield row
            if made >= count or empty >= PATIENCE:
                return

    def _places(self) -> Iterator[tuple[Category, SubCategory, str]]:
        """Categories in turn, their parts in turn, languages in turn."""
        parts = {category.name: itertools.cycle(category.sub) for category in self._chosen}
        languages = itertools.cycle(self.languages)
        for turn in itertools.count():
            # With as many languages as categories, each category would otherwise always get the same one.
            for _ in range(turn % len(self.languages)):
                next(languages)
            for category in self._chosen:
                yield category, next(parts[category.name]), next(languages)

    def _fill(self, category: Category, sub: SubCategory, language: str) -> Row:
        request = self._random.choice(category.templates).replace("{topic}", self._random.choice(sub.topics))
        while _SLOT.search(request):
            request = _SLOT.sub(lambda slot: self._random.choice(self.taxonomy.slots[slot[1]]), request, count=1)
        said = self.taxonomy.languages[language]
        return Row(request=f"{request}\n{said}".strip(), tags=_tags(category, sub, language))

    async def _write(
        self, conversation: Conversation, category: Category, sub: SubCategory, language: str
    ) -> list[Row]:
        topics = self._random.sample(sub.topics, min(6, len(sub.topics)))
        parts = fill(
            text_of("requests"),
            count=str(A_CALL),
            category=f"{category.description or category.name} ({sub.name.replace('_', ' ')})",
            topics="; ".join(topics),
            language=f"{language} ({self.taxonomy.languages[language] or 'English'})",
        )
        requests, _ = await conversation.ask(Ask(parts, schema=REQUESTS_SCHEMA), _read_requests)
        return [Row(request=request, tags=_tags(category, sub, language)) for request in requests]


def _tags(category: Category, sub: SubCategory, language: str) -> dict[str, str]:
    return {"category": category.name, "subcategory": sub.name, "language": language}


def _chat_model(planner: BackendSettings) -> ChatModel:
    if planner.backend != "chat":
        raise BadInput(f"planner.backend is {planner.backend!r}; requests are written by a chat model (chat)")
    known = {field.name for field in fields(ChatModel)}
    return ChatModel(**{name: value for name, value in (planner.model_extra or {}).items() if name in known})


def _read_requests(text: str) -> list[str]:
    found = read_literal_in(text.rpartition("</think>")[2], "requests")["requests"]
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise UnreadableAnswer("requests must be a list of texts")
    # A tag would stand for a picture that nobody sends.
    plain = [one.replace("<image>", "").strip() for one in found]
    return [one for one in plain if one]
