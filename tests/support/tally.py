"""The smallest service there is: it keeps a total, and tells whoever listens how high it is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from libs.common.clock import Clock
from libs.common.decision import Decide, Decision
from libs.common.events.capacity import CapacityWaiting
from libs.common.events.envelope import Envelope
from libs.common.events.event import Internal, Owner
from libs.common.ids import event_id
from libs.common.reconciler import Delayed, Refused
from libs.common.runner import Owned, Runner, Woke, its_subject
from libs.common.store.port import Attention, Store


class Added(Internal):
    """So much is to be added."""

    kind: ClassVar[str] = "internal.added"
    owner: ClassVar[Owner] = Owner.CAPACITY_MANAGER

    amount: int = 1


class Counted(Internal):
    """So much was found in the world."""

    kind: ClassVar[str] = "internal.counted"
    owner: ClassVar[Owner] = Owner.CAPACITY_MANAGER

    count: int


@dataclass(frozen=True, slots=True)
class Tally:
    """A total, and what was heard of the world."""

    key: str
    total: int = 0
    counted: int = 0
    trouble: tuple[str, ...] = ()
    woken: int = 0


def told(total: int) -> CapacityWaiting:
    """What a tally says."""
    return CapacityWaiting(reason="Total", message=str(total))


def add(state: Tally, envelope: Envelope, _now_ms: int) -> Decision[Tally]:
    """Add, and tell."""
    match envelope.data:
        case Added(amount=amount):
            state = replace(state, total=state.total + amount)
            return Decision(state, events=(told(state.total),), generation=1)
        case Counted(count=count):
            return Decision(replace(state, counted=count, trouble=()))
        case Delayed(code=code) | Refused(code=code):
            return Decision(replace(state, trouble=(*state.trouble, code)))
        case Woke():
            return Decision(replace(state, woken=state.woken + 1))
        case other:
            raise AssertionError(f"a tally does not hear {other}")


def a_runner(store: Store, clock: Clock, decide: Decide[Tally] = add) -> Runner[Tally]:
    """A runner of tallies that decides as told."""
    owned = Owned(
        kind="tally",
        state=Tally,
        empty=Tally,
        decide=decide,
        hears={Added: its_subject},
        scope=lambda state: state.key.partition("-")[0],
        attention=lambda state: Attention.NOW if state.counted < state.total else Attention.WATCH,
    )
    return Runner(owned, store=store, clock=clock)


def added(number: int | str, amount: int = 1, key: str = "t-1") -> Envelope:
    """The ``number``-th event that adds ``amount``."""
    return Envelope(event_id("test", str(number), 0), Added(amount=amount), subject=key, time_ms=1_000)
