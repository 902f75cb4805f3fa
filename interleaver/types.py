"""The data models that planner, generator, critic and documents share.

All of them are validated and JSON-serialisable: the state of a run holds their `model_dump`, so any checkpointer and
any server can carry it as ordinary JSON.
"""

from __future__ import annotations

from enum import StrEnum
from math import sqrt
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field

Json = dict[str, Any]
"""A JSON object."""
IMAGE_TAG = "<image>"
"""Stands in a text at the place of a picture."""
MANY_IMAGES = 5
"""Number of pictures from which each one in a question is shown small."""
MAX_TEXT = 20_000
"""Longest text that a planner or critic may write for one field, in characters."""
MAX_REASONING = 200_000
"""Longest reasoning of a model that is kept, in characters."""


def clean_text(text: Any) -> Any:
    """Return a text with U+FFFD in the place of what no file and no database takes: lone surrogates and NUL.

    Anything but a string is returned as it is, for the validation that follows.
    """
    if not isinstance(text, str):
        return text
    if not text.isascii():
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text.replace("\0", "\ufffd")


def plain_text(text: Any) -> Any:
    """Return a text as `clean_text` does, and without the other control characters, which a terminal would obey."""
    text = clean_text(text)
    return text.translate(_CONTROLS) if isinstance(text, str) else text


_CONTROLS = dict.fromkeys({*range(0x20), *range(0x7F, 0xA0)} - {ord(letter) for letter in "\t\n\r"}, "\ufffd")


def _at_most(limit: int) -> AfterValidator:
    def check(text: str) -> str:
        if len(text) > limit:
            raise ValueError(f"it has {len(text):,} characters; at most {limit:,} are allowed")
        return text

    return AfterValidator(check)


Text = Annotated[str, BeforeValidator(plain_text)]
"""A text that can be stored and shown anywhere."""
RawText = Annotated[str, BeforeValidator(clean_text)]
"""A text of a model as it was written, as far as it can be stored."""
ShortText = Annotated[Text, _at_most(MAX_TEXT)]
"""A text of a plan or a verdict. The limit is no part of the JSON schema, which some providers would refuse."""
LongText = Annotated[Text, _at_most(MAX_REASONING)]
"""A model's reasoning."""


class ImageRef(BaseModel):
    """A reference to a picture, whose bytes are in an `ImageStore` under their SHA-256."""

    model_config = ConfigDict(frozen=True)

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the encoded bytes, lower-case hex.")
    media_type: str = Field(pattern=r"^image/[a-z0-9.+-]+$", description="MIME type, for example image/png.")
    width: int = Field(gt=0, description="Width in pixels.")
    height: int = Field(gt=0, description="Height in pixels.")


class PicturePolicy(BaseModel):
    """How pictures are sent to a model: on a white background where they are transparent, and within limits.

    Larger pictures are scaled down, with their aspect ratio. A policy without fields has no limits but `max_bytes`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_side: int | None = Field(None, ge=16, description="Largest width and height in pixels; None for no limit.")
    max_pixels: int | None = Field(None, ge=256, description="Largest area in pixels; None for no limit.")
    max_bytes: int = Field(20 * 2**20, ge=1024, description="Largest size of the encoded picture.")
    many_pixels: int | None = Field(
        None,
        ge=256,
        description="Largest area in pixels of each picture in a question with five pictures or more; None for no "
        "other limit than with fewer.",
    )
    formats: tuple[Literal["image/png", "image/jpeg", "image/webp"], ...] = Field(
        ("image/png", "image/jpeg", "image/webp"), min_length=1, description="Media types that the model reads."
    )

    def among(self, count: int) -> PicturePolicy:
        """Return the policy for each of `count` pictures in one question."""
        if count < MANY_IMAGES or self.many_pixels is None:
            return self
        return self.model_copy(update={"max_pixels": min(self.max_pixels or self.many_pixels, self.many_pixels)})

    def fitting_size(self, width: int, height: int) -> tuple[int, int]:
        """Return the size in pixels to which a picture of the given size is scaled."""
        factor = min(
            1.0,
            self.max_side / max(width, height) if self.max_side else 1.0,
            sqrt(self.max_pixels / (width * height)) if self.max_pixels else 1.0,
        )
        return max(int(width * factor + 1e-6), 1), max(int(height * factor + 1e-6), 1)


SEVERAL_PIXELS = 384 * 384
"""Area in pixels of each of five or more pictures in a question with this package's own prompts, as in the paper."""
HOSTED_PICTURES = PicturePolicy(max_side=2048, max_bytes=3_500_000, many_pixels=SEVERAL_PIXELS)
"""For models of providers, most of which scale larger pictures down themselves and limit the size of a request."""
LOCAL_PICTURES = PicturePolicy(max_pixels=2048 * 2048, many_pixels=SEVERAL_PIXELS)
"""For models on one's own machines, whose processors have limits of their own."""
DRAWN_PICTURES = PicturePolicy(max_side=4096, max_bytes=7 * 2**20)
"""For image generators behind an API: the sources of an edit keep their detail."""


class Step(BaseModel):
    """One step of a plan, as the planner wrote it.

    A step with a prompt *draws*; a step without one is text-only, and the generator is not called for it.
    """

    number: int = Field(
        0, description="Number shown to readers, see `Plan.numbered`; steps run in the order of the plan."
    )
    name: ShortText = ""
    instruction: ShortText | None = Field(
        None, description="What the step should achieve; the critic reviews against it."
    )
    prompt: ShortText | None = Field(None, description="First prompt for the generator; None for a text-only step.")
    auxiliary_text: ShortText | None = Field(
        None, description="Text for the reader, where it differs from the instruction."
    )

    @property
    def draws(self) -> bool:
        """Whether this step asks the generator for a picture."""
        return bool(self.prompt and self.prompt.strip())

    @property
    def text(self) -> str:
        """The text for the reader: the auxiliary text if there is one, else the instruction; "" without either."""
        return (self.auxiliary_text or self.instruction or "").strip()

    @property
    def goal(self) -> str:
        """What the critic reviews against: the instruction, or the prompt if there is no instruction."""
        return self.instruction or self.prompt or ""


class Plan(BaseModel):
    """The steps of a document, written before any picture exists."""

    steps: list[Step]
    reasoning: LongText = Field("", description="Why the planner chose these steps.")

    def numbered(self) -> Plan:
        """Return the same steps in the same order, numbered consecutively.

        Models skip, repeat and omit numbers. Only the first number is kept, since a plan that continues given pictures
        starts counting after them; a first number below 1 becomes 1.
        """
        first = max(self.steps[0].number, 1) if self.steps else 1
        return self.model_copy(
            update={
                "steps": [
                    step.model_copy(update={"number": number}) for number, step in enumerate(self.steps, start=first)
                ]
            }
        )


class Verdict(BaseModel):
    """The critic's verdict on one attempt."""

    accepted: bool
    refined_prompt: ShortText = Field("", description='Improved prompt after a rejection; "" repeats the last prompt.')
    reasoning: LongText = ""
    score: float | None = Field(
        None, ge=0, le=1, description="How much of the instruction is met; None from a critic that gives no scores."
    )

    @property
    def label(self) -> str:
        """The verdict in one word: accepted or rejected."""
        return "accepted" if self.accepted else "rejected"


class Scores(BaseModel):
    """The judge's scores of one step, modelled on VIEScore: four values from 0 to 10, where 10 is best."""

    editing: float = Field(ge=0, le=10, description="How well the step did what was asked.")
    preserving: float = Field(ge=0, le=10, description="How well everything else was left unchanged.")
    naturalness: float = Field(ge=0, le=10, description="How natural the picture looks.")
    soundness: float = Field(ge=0, le=10, description="How free the picture is of artefacts.")
    success: bool = Field(description="Whether the step counts as successful.")
    reasoning: LongText = ""

    @property
    def semantics(self) -> float:
        """Semantic consistency, 0 to 10: the lower of `editing` and `preserving`."""
        return min(self.editing, self.preserving)

    @property
    def quality(self) -> float:
        """Perceptual quality, 0 to 10: the lower of `naturalness` and `soundness`."""
        return min(self.naturalness, self.soundness)

    @property
    def overall(self) -> float:
        """Overall score, 0 to 10: the geometric mean of `semantics` and `quality`."""
        return sqrt(self.semantics * self.quality)


class Message(BaseModel):
    """One turn of a conversation with a model, with an `<image>` tag in place of each picture."""

    role: Literal["user", "assistant"]
    content: RawText


class Usage(BaseModel):
    """Token counts of one model call, as reported by the server."""

    input_tokens: int = Field(0, ge=0)
    output_tokens: int = Field(0, ge=0, description="Output tokens, including reasoning tokens.")


class Exchange(BaseModel):
    """One call of a chat model, verbatim; training rows are made from exchanges."""

    role: Literal["planner", "critic", "generator", "judge"]
    model: Text
    messages: list[Message] = Field(description="Input of the model, without its answer.")
    images: list[ImageRef] = Field(
        default_factory=list, description="Pictures of the messages, in the order of their `<image>` tags."
    )
    pictures: PicturePolicy | None = Field(
        None, description="How the pictures were sent; None in traces of former versions."
    )
    answer: RawText = Field("", description="Raw answer of the model.")
    reasoning: RawText = Field("", description="Reasoning that the server returned separately from the answer.")
    problem: Literal["refusal", "content_filter", "empty", "truncated", "unreadable", "failed"] | None = Field(
        None, description="Why the answer could not be used; None if it could."
    )
    error: Text | None = Field(None, description="One-line message about the problem.")
    usage: Usage = Field(default_factory=Usage)
    seconds: float = 0.0


class Attempt(BaseModel):
    """One attempt at drawing a step: prompt, picture and the critic's verdict. Attempts are never overwritten."""

    step: int = Field(ge=0, description="Position in the plan, from 0.")
    attempt: int = Field(ge=1, description="Number of the attempt at this step, from 1.")
    prompt: Text
    seed: int
    sources: list[ImageRef] = Field(
        default_factory=list, description="Pictures that were edited; empty for one drawn from scratch."
    )
    image: ImageRef | None = None
    verdict: Verdict | None = None
    error: Text | None = Field(None, description="Why there is no picture, or no verdict.")
    may_succeed: bool = Field(
        False, description="Whether the generator answered without a picture, but may send one when asked again."
    )
    discarded: Text | None = Field(None, description="Why a draft, drawn ahead of its turn, was not used.")
    draw_seconds: float | None = None
    review_seconds: float | None = None
    exchanges: list[Exchange] = Field(
        default_factory=list, description="Model calls behind the picture and the verdict, including failed ones."
    )

    @property
    def reviewed(self) -> bool:
        """Whether the critic was asked about the picture, with or without a verdict as the result."""
        return self.image is not None and (self.verdict is not None or self.error is not None)

    @property
    def verdict_label(self) -> str:
        """The verdict in one or two words: accepted, rejected or no verdict."""
        return self.verdict.label if self.verdict else "no verdict"

    @property
    def reason(self) -> str:
        """The error if there is one, else the critic's reasoning; "" without either."""
        return self.error or (self.verdict.reasoning if self.verdict else "")


class Outcome(StrEnum):
    """How a step ended."""

    ACCEPTED = "accepted"
    """The critic, or a reviewer, accepted the picture."""
    EXHAUSTED = "exhausted"
    """Every attempt was rejected; one of the pictures was kept anyway."""
    UNVERIFIED = "unverified"
    """A picture was drawn, but the critic was unavailable or its answer was unreadable."""
    TEXT = "text"
    """The step is text-only."""
    FAILED = "failed"
    """No picture could be drawn, or a reviewer skipped the step."""

    @property
    def finished(self) -> bool:
        """Whether the step is fully done: its picture was accepted, or it is text-only."""
        return self in (Outcome.ACCEPTED, Outcome.TEXT)


class StepResult(BaseModel):
    """The result of one step."""

    outcome: Outcome
    attempt: int | None = Field(None, description="Number of the attempt whose picture was kept.")
    image: ImageRef | None = None
    reason: Text | None = Field(
        None, description="Why the step ended so, unless the critic accepted it or it is text-only."
    )


class Failure(BaseModel):
    """Why a run ended early."""

    where: Literal["planner", "generator", "critic", "budget", "review", "limit"]
    reason: Text


class TextBlock(BaseModel):
    """A text block of the document."""

    type: Literal["text"] = "text"
    text: Text
    step: int | None = Field(None, description="Position of the step in the plan, from 0.")


class ImageBlock(BaseModel):
    """An image block of the document."""

    type: Literal["image"] = "image"
    image: ImageRef
    alt: Text
    step: int


Block = Annotated[TextBlock | ImageBlock, Field(discriminator="type")]
Status = Literal["complete", "partial", "failed"]


class StepSummary(BaseModel):
    """A step as shown to readers of the document; `outcome` is None for a step that the run never reached."""

    number: int
    name: Text
    outcome: Outcome | None = None
    reason: Text | None = None


class Document(BaseModel):
    """The illustrated document: text and image blocks in reading order.

    Attributes:
        request: the user's request.
        status: `complete` if every step ended as `accepted` or `text`, `failed` if there is nothing to show or the
            request could not be planned, `partial` otherwise.
        seed: seed of the run.
        blocks: the content.
        steps: all steps of the plan, including those without blocks.
        reason: one line that says why the status is not `complete`.
    """

    request: Text
    status: Status
    seed: int = 0
    blocks: list[Block] = Field(default_factory=list)
    steps: list[StepSummary] = Field(default_factory=list)
    reason: Text | None = None
