"""What an engine's process and its owner's say to each other.

Knows: each message, and what it means; the owner begins with a `Hello`, and asks from then on.
Refuses to know: how messages are written (`_frames.py`), and who says them when.

A field has one of the types that can be written: a number, a flag, a text, bytes, another message, a tuple of
numbers or of messages; or none.
"""

from __future__ import annotations

from typing import Final

from attrs import frozen

__all__ = [
    "VERSION",
    "Accepted",
    "Admit",
    "Admitted",
    "Begin",
    "Begun",
    "Cancel",
    "Cast",
    "Close",
    "Constrain",
    "Ended",
    "Events",
    "Hello",
    "Likely",
    "LogLine",
    "Mask",
    "Message",
    "Ready",
    "Said",
    "Step",
    "Trouble",
]

VERSION: Final = 1
"""Of all that stands here and of how it is written; each side says it first, since an upgrade may change the
files of a server that runs, and so the program that its next child will be."""


@frozen
class Hello:
    """The owner's first: what to make."""

    version: int
    factory: str
    """`module:function`."""
    arguments: str
    """Its keyword arguments, as JSON."""
    log_level: int
    parent: int
    """The owner's process."""
    birth: str
    """When that began, as `birth_of` has it."""


@frozen
class Ready:
    """The child's first: the engine is there."""

    version: int
    context_length: int


@frozen
class Trouble:
    """An exception: it says what happened to what was asked last."""

    kind: str
    text: str
    param: str | None = None
    code: str | None = None
    retry_after: float | None = None


@frozen
class Admit:
    """Take a job."""

    number: int
    """Which, from here on."""
    same_as: int | None
    """A running job with the very same prompt, which is then left out."""
    prompt: tuple[int, ...]
    max_tokens: int
    grammar: bool
    """Whether it has one; the owner keeps it."""
    logprobs: int | None
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    biased: tuple[int, ...]
    biases: tuple[float, ...]
    seed: str | None
    """In decimal digits: it may be of any size."""


@frozen
class Admitted:
    """A job was taken."""


@frozen
class Cancel:
    """Forget a job; there is no answer."""

    number: int


@frozen
class Step:
    """Compute one slice."""


@frozen
class Begun:
    """`Started`, of a job."""

    number: int
    cached_tokens: int


@frozen
class Likely:
    """`TokenLogprobs`."""

    logprob: float
    top_ids: tuple[int, ...]
    top_logprobs: tuple[float, ...]


@frozen
class Said:
    """`Token`, of a job."""

    number: int
    id: int
    likely: Likely | None = None


@frozen
class Ended:
    """`Finished`, of a job, or `Failed` if there is a trouble."""

    number: int
    reason: str
    trouble: Trouble | None = None


@frozen
class Events:
    """What came of a step."""

    steps: int
    prompt_tokens: int
    generated_tokens: int
    """Running totals."""
    events: tuple[Begun | Said | Ended, ...]


@frozen
class Begin:
    """The child begins a job's grammar; the owner answers with a `Cast`, as to the next two."""

    number: int


@frozen
class Constrain:
    """The child wants to know what the grammar allows next; the owner answers with a `Mask`."""

    number: int
    vocabulary: int


@frozen
class Accepted:
    """A job's grammar shall take a token."""

    number: int
    token: int


@frozen
class Cast:
    """A grammar's state after what it was told."""

    complete: bool


@frozen
class Mask:
    """One bit for each token id, the first in the highest bit of the first byte: 1 is allowed."""

    bits: bytes


@frozen
class LogLine:
    """What the child's program logs."""

    level: int
    logger: str
    text: str


@frozen
class Close:
    """Free everything, and end."""


Message = (
    Hello
    | Ready
    | Trouble
    | Admit
    | Admitted
    | Cancel
    | Step
    | Events
    | Begin
    | Constrain
    | Accepted
    | Cast
    | Mask
    | LogLine
    | Close
)
"""What a frame can hold."""
