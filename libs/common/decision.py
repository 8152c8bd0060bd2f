"""What a core returns: the new state, and what the world should hear, count and remember because of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from libs.common.events.envelope import Envelope
from libs.common.events.event import Event

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Take:
    """Add ``amount`` to a counter within ``limit``; past it `otherwise` is decided, or QuotaExceeded raised."""

    counter: str
    amount: int
    limit: int


@dataclass(frozen=True, slots=True)
class Give:
    """Subtract ``amount`` from a counter."""

    counter: str
    amount: int


@dataclass(frozen=True, slots=True)
class Line:
    """A ledger line; `id` is computed, so that the same cause enters it once.

    `otherwise` makes the one that is entered in its place where the ledger holds this id with other content; without
    it, the whole decision is refused with Conflict. `given` is the id of a line of the same decision and data without
    which this one is not entered either.
    """

    id: str
    account: str
    meter: str
    quantity: int
    at_ms: int
    data: bytes = b"{}"
    otherwise: Callable[[], Line] | None = None
    labels: str = ""
    given: str = ""


@dataclass(frozen=True, slots=True)
class Put:
    """Set a key of a key-value bucket; None deletes it."""

    bucket: str
    key: str
    value: bytes | None


@dataclass(frozen=True, slots=True)
class Decision(Generic[S]):
    """The outcome of one event, all of it committed together or not at all.

    `events` are told about `about` (default: the record's own key) with `generation`; `wake_at_ms` replaces the
    wake-up there was, so a decision that still waits says so again. `otherwise` is what is decided in the same commit
    if a counter refuses a `Take`: nothing of this one happens then. Without it the refusal is raised as QuotaExceeded.
    """

    state: S
    events: tuple[Event, ...] = ()
    generation: int = 0
    about: str | None = None
    wake_at_ms: int | None = None
    counters: tuple[Take | Give, ...] = ()
    lines: tuple[Line, ...] = ()
    puts: tuple[Put, ...] = ()
    otherwise: Decision[S] | None = None


Decide = Callable[[S, Envelope, int], Decision[S]]
