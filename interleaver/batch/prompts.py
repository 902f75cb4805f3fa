"""Sampling of prompt lists: diverse requests from a taxonomy, made from templates or written by a chat model."""

from __future__ import annotations

import itertools
import re
import sqlite3
import tomllib
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import fields
from pathlib import Path
from random import Random

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from interleaver.agents.answers import read_literal_in
from interleaver.agents.conversation import Ask, ChatModel, Conversation
from interleaver.agents.prompts import fill, template_text
from interleaver.batch.prompt_list import PromptRow
from interleaver.calling import run_concurrently
from interleaver.errors import BackendError, BadInput, UnreadableAnswer, did_you_mean, explain
from interleaver.profile import BackendSettings
from interleaver.text_files import read_text_file
from interleaver.traces.near_duplicates import SimilarTexts

MAX_DUPLICATES_IN_A_ROW = 30
"""Number of consecutive near-duplicates after which a taxonomy counts as exhausted."""
WORKERS = 4
REQUESTS_PER_CALL = 10
"""Number of requests that a chat model writes per call."""
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
    """A part of a category, with the topics of its requests."""

    model_config = ConfigDict(extra="forbid")

    name: str
    topics: list[str] = Field(min_length=1)


class Category(BaseModel):
    """A kind of request: templates with a `{topic}` slot, and topics by sub-category."""

    model_config = ConfigDict(extra="forbid")

    name: str
    description: str = ""
    templates: list[str] = Field(min_length=1)
    sub: list[SubCategory] = Field(min_length=1)


class Taxonomy(BaseModel):
    """The templates and topics that a prompt list is sampled from.

    Attributes:
        languages: by language, the sentence that is appended to a request to ask for texts in that language.
        slots: by name, the values of a slot that templates and topics use as `{name}`.
    """

    model_config = ConfigDict(extra="forbid")

    languages: dict[str, str] = Field(default_factory=lambda: {"en": ""})
    slots: dict[str, list[str]] = Field(default_factory=dict)
    category: list[Category] = Field(min_length=1)

    @model_validator(mode="after")
    def _slots_exist(self) -> Taxonomy:
        for name, values in self.slots.items():
            if any(_SLOT.search(value) for value in values):
                raise ValueError(f"slot {name!r}: its values must not contain slots")
        for category in self.category:
            texts = category.templates + [topic for sub in category.sub for topic in sub.topics]
            for template, name in ((text, name) for text in texts for name in _SLOT.findall(text)):
                if name != "topic" and not self.slots.get(name):
                    hint = did_you_mean(name, [*self.slots, "topic"])
                    raise ValueError(
                        f"category {category.name!r}: {template!r} uses {{{name}}}, which is not a slot{hint}"
                    )
        return self


def shipped_taxonomies() -> dict[str, Path]:
    """Return the taxonomies that come with this package, by name."""
    folder = Path(__file__).with_name("taxonomies")
    return {file.stem: file for file in sorted(folder.glob("*.toml"))}


def load_taxonomy(name: str) -> Taxonomy:
    """Read a taxonomy.

    Args:
        name: name of a taxonomy that comes with this package, or path of a TOML file.

    Raises:
        BadInput: the taxonomy does not exist, cannot be read, or is invalid.
    """
    path = Path(name) if Path(name).exists() else shipped_taxonomies().get(name, Path(name))
    try:
        return Taxonomy.model_validate(tomllib.loads(read_text_file(path)))
    except FileNotFoundError:
        ready = ", ".join(shipped_taxonomies())
        raise BadInput(f"there is no taxonomy {name!r}; give a file or one of: {ready}") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BadInput(f"the taxonomy {name!r} cannot be read: {error}") from None
    except ValidationError as error:
        raise BadInput(f"the taxonomy {name!r}: {explain(error)}") from None


class Sampler:
    """A sampler of requests, evenly over the categories and their sub-categories, without near-duplicates."""

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
            taxonomy: taxonomy to sample from.
            languages: languages of the requested texts, used in rotation.
            categories: names of the categories to use; empty for all.
            seed: seed of the sampling; equal seeds give equal requests.
            similarity: threshold, 0 to 1, from which two requests are near-duplicates.

        Raises:
            BadInput: a language or a category is unknown.
        """
        names = [category.name for category in taxonomy.category]
        for setting, chosen_names, choices in (
            ("language", languages, list(taxonomy.languages)),
            ("category", categories, names),
        ):
            for name in chosen_names:
                if name not in choices:
                    hint = did_you_mean(name, choices)
                    raise BadInput(f"the taxonomy has no {setting} {name!r}{hint}; it has: {', '.join(choices)}")
        self.taxonomy = taxonomy
        self.languages = languages
        self._random = Random(seed)
        self._categories = [category for category in taxonomy.category if category.name in (categories or names)]
        self._similar_texts = SimilarTexts(sqlite3.connect(":memory:"), similarity)

    def by_templates(self, count: int) -> Iterator[PromptRow]:
        """Yield at most `count` requests made from templates; fewer if the taxonomy is exhausted."""
        count_so_far = rejected = 0
        for category, sub, language in self._places():
            if count_so_far >= count or rejected >= MAX_DUPLICATES_IN_A_ROW * len(self._categories):
                return
            row = self._fill(category, sub, language)
            _, is_new = self._similar_texts.number(row.request)
            count_so_far, rejected = (count_so_far + 1, 0) if is_new else (count_so_far, rejected + 1)
            if is_new:
                yield row

    async def by_model(self, count: int, planner: BackendSettings) -> AsyncGenerator[PromptRow]:
        """Yield at most `count` requests written by a chat model; fewer if it writes too many near-duplicates.

        Args:
            count: maximum number of requests.
            planner: settings of the profile's planner, a `chat` backend, whose model writes the requests; its
                `concurrency` limits the number of calls at the same time.

        Raises:
            BadInput: the planner's backend is not `chat`.
            BackendError: too many calls failed in a row.
        """
        conversation = Conversation(_chat_model(planner), "planner")
        count_so_far = empty = failed = 0
        workers = planner.concurrency or WORKERS

        async def write(place: tuple[Category, SubCategory, str]) -> list[PromptRow] | BackendError:
            try:
                return await self._write(conversation, *place)
            except BackendError as error:
                return error

        places = itertools.islice(self._places(), 4 * count // REQUESTS_PER_CALL + 4 * workers)
        async with aclosing(run_concurrently(places, write, workers)) as answers:
            async for rows in answers:
                if isinstance(rows, BackendError):
                    failed += 1
                    if failed > workers:
                        raise rows
                    continue
                new_rows = [row for row in rows if self._similar_texts.number(row.request)[1]]
                failed, empty = 0, 0 if new_rows else empty + 1
                for row in new_rows[: count - count_so_far]:
                    count_so_far += 1
                    yield row
                if count_so_far >= count or empty >= MAX_DUPLICATES_IN_A_ROW:
                    return

    def _places(self) -> Iterator[tuple[Category, SubCategory, str]]:
        """Yield all categories in rotation, each with its next sub-category and the next language."""
        parts = {category.name: itertools.cycle(category.sub) for category in self._categories}
        languages = itertools.cycle(self.languages)
        for turn in itertools.count():
            # Otherwise, with as many languages as categories, each category would always get the same language.
            for _ in range(turn % len(self.languages)):
                next(languages)
            for category in self._categories:
                yield category, next(parts[category.name]), next(languages)

    def _fill(self, category: Category, sub: SubCategory, language: str) -> PromptRow:
        request = self._random.choice(category.templates).replace("{topic}", self._random.choice(sub.topics))
        while _SLOT.search(request):
            request = _SLOT.sub(lambda slot: self._random.choice(self.taxonomy.slots[slot[1]]), request, count=1)
        language_note = self.taxonomy.languages[language]
        return PromptRow(request=f"{request}\n{language_note}".strip(), tags=_tags(category, sub, language))

    async def _write(
        self, conversation: Conversation, category: Category, sub: SubCategory, language: str
    ) -> list[PromptRow]:
        topics = self._random.sample(sub.topics, min(6, len(sub.topics)))
        parts = fill(
            template_text("requests"),
            count=str(REQUESTS_PER_CALL),
            category=f"{category.description or category.name} ({sub.name.replace('_', ' ')})",
            topics="; ".join(topics),
            language=f"{language} ({self.taxonomy.languages[language] or 'English'})",
        )
        requests, _ = await conversation.ask(Ask(parts, schema=REQUESTS_SCHEMA), _read_requests)
        return [PromptRow(request=request, tags=_tags(category, sub, language)) for request in requests]


def _tags(category: Category, sub: SubCategory, language: str) -> dict[str, str]:
    return {"category": category.name, "subcategory": sub.name, "language": language}


def _chat_model(planner: BackendSettings) -> ChatModel:
    if planner.backend != "chat":
        raise BadInput(f"planner.backend is {planner.backend!r}; it must be 'chat', whose model writes the requests")
    field_names = {field.name for field in fields(ChatModel)}
    return ChatModel(**{name: value for name, value in (planner.model_extra or {}).items() if name in field_names})


def _read_requests(text: str) -> list[str]:
    requests = read_literal_in(text.rpartition("</think>")[2], "requests")["requests"]
    if not isinstance(requests, list) or not all(isinstance(request, str) for request in requests):
        raise UnreadableAnswer("requests must be a list of texts")
    # A tag would stand for a picture that does not exist.
    clean_requests = [request.replace("<image>", "").strip() for request in requests]
    return [request for request in clean_requests if request]
