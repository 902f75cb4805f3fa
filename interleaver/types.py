"""The data that flows between planner, generator, critic and reader.

Everything here is plain, validated and JSON-serialisable: the state of a run holds the ``model_dump`` of these
models, so it passes through any checkpointer and any server as ordinary JSON.
"""

from __future__ import annotations

from enum import StrEnum
from math import sqrt
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field


class ImageRef(BaseModel):
    """A picture by reference: its bytes live in an `ImageStore` under their SHA-256."""

    model_config = ConfigDict(frozen=True)

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="SHA-256 of the encoded bytes, lower-case hex.")
    media_type: str = Field(pattern=r"^image/[a-z0-9.+-]+$", description="For example image/png.")
    width: int = Field(gt=0, description="Pixels.")
    height: int = Field(gt=0, description="Pixels.")


class Step(BaseModel):
    """One step of a plan, as the planner wrote it.

    A step *draws* when it has a prompt; otherwise it is text-only and the generator is never called for it.
    """

    number: int = Field(
        0, description="The number a reader sees; steps run in the order of the plan, and `Plan.numbered` fills gaps."
    )
    name: str = ""
    instruction: str | None = Field(None, description="What the step should achieve; the critic judges against it.")
    prompt: str | None = Field(None, description="The first prompt for the generator; None for a text-only step.")
    auxiliary_text: str | None = Field(None, description="Text for the reader, where it differs from the instruction.")

    @property
    def draws(self) -> bool:
        """Whether this step asks the generator for a picture."""
        return bool(self.prompt and self.prompt.strip())

    @property
    def text(self) -> str:
        """What a reader sees: the auxiliary text when there is one, else the instruction ("" when neither)."""
        return (self.auxiliary_text or self.instruction or "").strip()

    @property
    def goal(self) -> str:
        """What the critic judges against: the instruction, or the prompt where the planner gave no instruction."""
        return self.instruction or self.prompt or ""


class Plan(BaseModel):
    """All steps of a document, written before any picture exists."""

    steps: list[Step]
    reasoning: str = Field("", description="Why the planner chose these steps.")

    def numbered(self) -> Plan:
        """The same steps in the same order, numbered consecutively.

        Models skip, repeat and omit numbers. Only the first one carries meaning, since a plan that continues given
        pictures starts where they left off, so numbering starts there (at 1 when it is not positive).
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
    """The critic's judgement of one attempt."""

    accepted: bool
    refined_prompt: str = Field("", description='A better prompt after a rejection; "" means "repeat the last one".')
    reasoning: str = ""
    score: float | None = Field(
        None, ge=0, le=1, description="How much of the instruction is met, from a critic that can tell."
    )


class Judgement(BaseModel):
    """What a judge says of one step, after VIEScore: four scores from 0 to 10, where 10 is the best."""

    editing: float = Field(ge=0, le=10, description="How far the step did what was asked.")
    preserving: float = Field(ge=0, le=10, description="How far everything else was left alone.")
    naturalness: float = Field(ge=0, le=10, description="How natural the picture looks.")
    soundness: float = Field(ge=0, le=10, description="How free it is of artefacts.")
    success: bool = Field(description="Whether the step counts as done.")
    reasoning: str = ""

    @property
    def semantics(self) -> float:
        """Semantic consistency, 0 to 10: the lower of editing success and absence of over-editing."""
        return min(self.editing, self.preserving)

    @property
    def quality(self) -> float:
        """Perceptual quality, 0 to 10: the lower of naturalness and absence of artefacts."""
        return min(self.naturalness, self.soundness)

    @property
    def overall(self) -> float:
        """0 to 10: the geometric mean of the two."""
        return sqrt(self.semantics * self.quality)


class Message(BaseModel):
    """One turn of a conversation with a model; an `<image>` tag stands where each picture was."""

    role: Literal["user", "assistant"]
    content: str


class Usage(BaseModel):
    """The tokens of one model call, as the server counted them."""

    input_tokens: int = Field(0, ge=0)
    output_tokens: int = Field(0, ge=0, description="With the tokens of the reasoning.")


class Exchange(BaseModel):
    """One call of a chat model, word for word: what a training row is made of."""

    role: Literal["planner", "critic", "generator", "judge"]
    model: str
    messages: list[Message] = Field(description="What the model was given; its answer is not among them.")
    images: list[ImageRef] = Field(default_factory=list, description="The pictures, in the order of their tags.")
    answer: str = Field("", description="The raw answer.")
    reasoning: str = Field("", description="Reasoning that the server returned apart from the answer.")
    problem: Literal["refusal", "content_filter", "empty", "truncated", "unreadable", "failed"] | None = Field(
        None, description="Why the answer could not be used."
    )
    error: str | None = Field(None, description="The problem in one line.")
    usage: Usage = Field(default_factory=Usage)
    seconds: float = 0.0


class Attempt(BaseModel):
    """One drawing of one step: what was asked, what came back and what the critic said. Never overwritten."""

    step: int = Field(ge=0, description="Position in the plan, from 0.")
    attempt: int = Field(ge=1, description="Counts the drawings of this step, from 1.")
    prompt: str
    seed: int
    sources: list[ImageRef] = Field(
        default_factory=list, description="The pictures that were edited; [] when drawn anew."
    )
    image: ImageRef | None = None
    verdict: Verdict | None = None
    error: str | None = Field(None, description="Why there is no picture, or no verdict.")
    discarded: str | None = Field(None, description="Why a drawing that was made ahead of its turn was not used.")
    draw_seconds: float | None = None
    judge_seconds: float | None = None
    exchanges: list[Exchange] = Field(
        default_factory=list, description="The model calls behind the picture and the verdict, failed ones too."
    )


class Outcome(StrEnum):
    """How a step ended."""

    ACCEPTED = "accepted"
    """The critic accepted the picture."""
    EXHAUSTED = "exhausted"
    """Every attempt was rejected; a picture was kept all the same."""
    UNVERIFIED = "unverified"
    """A picture was drawn, but the critic could not be reached or understood."""
    TEXT = "text"
    """The step has words only; nothing was to be drawn."""
    FAILED = "failed"
    """No picture could be drawn."""


class StepResult(BaseModel):
    """What became of one step."""

    outcome: Outcome
    attempt: int | None = Field(None, description="The attempt whose picture was kept.")
    image: ImageRef | None = None
    reason: str | None = Field(None, description="Why the outcome is not `accepted` or `text`.")


class Failure(BaseModel):
    """Why a run ended early."""

    where: Literal["planner", "generator", "critic", "budget", "review"]
    reason: str


class TextBlock(BaseModel):
    """A paragraph of the document."""

    type: Literal["text"] = "text"
    text: str
    step: int | None = Field(None, description="Position of the step in the plan, from 0.")


class ImageBlock(BaseModel):
    """A picture of the document."""

    type: Literal["image"] = "image"
    image: ImageRef
    alt: str
    step: int


Block = Annotated[TextBlock | ImageBlock, Field(discriminator="type")]
Status = Literal["complete", "partial", "failed"]


class StepSummary(BaseModel):
    """A step as a reader of the document sees it. `outcome` is None for a step the run never reached."""

    number: int
    name: str
    outcome: Outcome | None = None
    reason: str | None = None


class Document(BaseModel):
    """The illustrated document: blocks of text and image in reading order.

    Attributes:
        status: `complete` when every step ended as `accepted` or `text`; `failed` when nothing of it can be shown;
            `partial` otherwise.
        reason: one line that says why the status is not `complete`.
    """

    request: str
    status: Status
    seed: int = 0
    blocks: list[Block] = Field(default_factory=list)
    steps: list[StepSummary] = Field(default_factory=list)
    reason: str | None = None
