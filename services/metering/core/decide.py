"""What an endpoint's meter makes of each thing it hears.

Hearing only adds to what is known; `book` then makes the ledger agree with it, whatever the order it came in.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import ClassVar, Final

from libs.common.decision import Decision
from libs.common.errors import Invalid
from libs.common.events.caches import ModelEvicted, ModelHit, ModelReleased, ModelWarmed
from libs.common.events.capacity import NodeJoined, NodeLost, NodeReleased, NodeUsed
from libs.common.events.endpoint import (
    EndpointDeletionRequested,
    EndpointFailed,
    EndpointPauseRequested,
    EndpointRequested,
    EndpointStageChanged,
)
from libs.common.events.envelope import Envelope
from libs.common.events.event import Internal, Owner
from libs.common.events.runtime import ReplicasChanged, VolumeChanged
from libs.common.events.usage import CutStream, StreamsCut
from libs.common.runner import Woke
from libs.common.units import DAY_MS, MINUTE_MS
from services.metering.core.accounts import POOLED
from services.metering.core.booking import NO_SALE, book, put_off
from services.metering.core.counting import counted
from services.metering.core.intake import FUTURE_MAX_MS
from services.metering.core.state import Dimensions, Mark, Meter, Node, Sale
from services.metering.core.telling import Totalled
from services.metering.core.timeline import Happening, StageSince, UseSince
from services.metering.core.windows import Windows

GPUS_MAX: Final = 1024  # Per node; no machine comes near it, and a wrong count must not become a bill.
BACKDATE_MAX_MS: Final = 7 * DAY_MS  # How long before it was told a node may have come or gone.
AHEAD_MAX_MS: Final = 5 * MINUTE_MS


class Served(Internal):
    """What a router's batch says of one endpoint: which windows (by start) got entries, and what was sold in each.

    `cut` are the answers in it that were ended at a drain deadline.
    """

    kind: ClassVar[str] = "metering.served"
    owner: ClassVar[Owner] = Owner.METERING

    windows: tuple[tuple[int, Dimensions], ...]
    cut: tuple[CutStream, ...] = ()


class LedgerRead(Internal):
    """The due windows were compared with the ledger: `agreed` (root, start, mark) are as they were told."""

    kind: ClassVar[str] = "metering.ledger_read"
    owner: ClassVar[Owner] = Owner.METERING

    agreed: tuple[tuple[str, int, int], ...]
    untold: tuple[Totalled, ...]


def decide_meter(meter: Meter, envelope: Envelope, now_ms: int, *, windows: Windows) -> Decision[Meter]:
    """Take in one thing heard, book what follows from all of it, and mark the windows that got entries.

    Raises Invalid for node times, GPU counts or volumes that cannot be true.
    """
    event = envelope.data
    # A clock that steps back must not take back what is booked, nor ask for a wake-up that has been.
    now_ms = max(now_ms, meter.now_ms, event.due_ms if isinstance(event, Woke) else 0)
    learned = _learn(replace(meter, now_ms=now_ms), envelope, windows)
    booking = put_off(learned, windows) if isinstance(event, Served | LedgerRead) else book(learned, windows)
    after = booking.meter
    if after.dimensions is not None and booking.touched:
        after = mark(after, booking.touched, windows)
    cut = event.cut if isinstance(event, Served) else ()
    return Decision(
        after,
        events=(StreamsCut(streams=cut),) if cut else (),
        generation=max((each.generation for each in cut), default=0),
        lines=booking.lines,
        wake_at_ms=_wake_at(after, booking.next_ms),
    )


def mark(meter: Meter, touched: Iterable[tuple[int, Dimensions]], windows: Windows) -> Meter:
    """The meter with these windows marked, each for what was sold in it.

    One that is marked already keeps its time, so that it is told in the end.
    """
    marked = {(each.start_ms, each.dimensions.root): each for each in meter.marked}
    number = meter.marks
    for start_ms, sold in touched:
        number += 1
        place = (start_ms, sold.root)
        known = marked.get(place) or Mark(sold, start_ms, 0, windows.told_at(start_ms, now_ms=meter.now_ms))
        marked[place] = replace(known, dimensions=sold, number=number)
    return replace(meter, marked=tuple(marked[place] for place in sorted(marked)), marks=number)


def _learn(meter: Meter, envelope: Envelope, windows: Windows) -> Meter:
    match envelope.data:
        case EndpointRequested() as requested:
            return _requested(meter, envelope, requested)
        case EndpointStageChanged() as changed:
            return _staged(meter, StageSince(envelope.sequence, changed.since_ms, changed.stage))
        case EndpointDeletionRequested() | EndpointPauseRequested() | EndpointFailed():
            heard = envelope.heard()
            assert heard is not None
            return replace(meter, facts=meter.facts.learn(heard))
        case NodeJoined() as node:
            _check(envelope, node.at_ms, node.gpu_count)
            return _happened(
                _pooled(meter, node),
                node.claim,
                Happening(envelope.sequence, node.at_ms, node.gpu_count),
                node_type=node.node_type,
            )
        case NodeReleased() as node:
            _check(envelope, node.at_ms, 0)
            return _happened(meter, node.claim, Happening(envelope.sequence, node.at_ms, None))
        case NodeUsed() | NodeLost() as used:
            _check(envelope, used.at_ms, 0)
            use = used.use if isinstance(used, NodeUsed) else None
            return _used(meter, used.claim, UseSince(envelope.sequence, used.at_ms, use))
        case ReplicasChanged() | VolumeChanged() | ModelWarmed() | ModelHit() | ModelReleased() | ModelEvicted():
            return replace(meter, things=counted(meter.things, envelope))
        case Served() as served:
            return _served(meter, served, windows)
        case LedgerRead() as read:
            return _looked(meter, read, windows)
        case _:
            return meter  # Woke, and what a reconciler says of trouble: only the time moves on.


def _requested(meter: Meter, envelope: Envelope, requested: EndpointRequested) -> Meter:
    heard = envelope.heard()
    assert heard is not None
    sold = Dimensions(
        tenant_id=requested.tenant_id,
        project_id=requested.project_id,
        endpoint_id=meter.endpoint_id,
        generation=envelope.generation,
        model=requested.spec.model,
        tier=requested.spec.tier,
        region=requested.spec.region,
        tenancy=requested.placement.tenancy,
    )
    if any(each.sequence == envelope.sequence for each in meter.sales):
        return meter
    news = Sale(envelope.sequence, envelope.time_ms, sold)
    sales = tuple(sorted((*meter.sales, news), key=lambda each: each.sequence))
    return replace(meter, facts=meter.facts.learn(heard), sales=sales, dimensions=sales[-1].sold)


def _staged(meter: Meter, news: StageSince) -> Meter:
    if any(each.sequence == news.sequence for each in meter.stages):
        return meter
    return replace(meter, stages=tuple(sorted((*meter.stages, news), key=lambda each: each.sequence)))


def _check(envelope: Envelope, at_ms: int, gpu_count: int) -> None:
    if not envelope.time_ms - BACKDATE_MAX_MS <= at_ms <= envelope.time_ms + AHEAD_MAX_MS:
        raise Invalid(f"{envelope.type} of {envelope.subject} says {at_ms} but was told at {envelope.time_ms}")
    if not 0 <= gpu_count <= GPUS_MAX:
        raise Invalid(f"{envelope.type} of {envelope.subject} has {gpu_count} GPUs; a node has 0 to {GPUS_MAX}")


def _happened(meter: Meter, claim: str, news: Happening, *, node_type: str = "") -> Meter:
    known = next((each for each in meter.nodes if each.claim == claim), None)
    if news.at_ms < meter.settled_ms and (
        known is None or not known.happenings or news.sequence < known.happenings[0].sequence
    ):
        return meter  # Of a history that was forgotten; its time is in the ledger.
    node = known or Node(claim, node_type)
    if any(each.sequence == news.sequence for each in node.happenings):
        return meter
    happenings = tuple(sorted((*node.happenings, news), key=lambda each: each.sequence))
    node = replace(node, happenings=happenings, node_type=node_type or node.node_type)
    others = (each for each in meter.nodes if each.claim != claim)
    return replace(meter, nodes=tuple(sorted((*others, node), key=lambda each: each.claim)))


def _used(meter: Meter, claim: str, news: UseSince) -> Meter:
    """Heard before its node.joined, it waits for that: what is not held is not booked."""
    node = next((each for each in meter.nodes if each.claim == claim), Node(claim, ""))
    if any(each.sequence == news.sequence for each in node.uses):
        return meter
    node = replace(node, uses=tuple(sorted((*node.uses, news), key=lambda each: each.sequence)))
    others = (each for each in meter.nodes if each.claim != claim)
    return replace(meter, nodes=tuple(sorted((*others, node), key=lambda each: each.claim)))


def _pooled(meter: Meter, node: NodeJoined) -> Meter:
    if node.pool is None:
        return meter
    pool = Dimensions(
        POOLED, node.pool.project, meter.endpoint_id, NO_SALE, model="", tier=node.pool.tier, region=node.pool.region
    )
    return replace(meter, pool=pool)


def _served(meter: Meter, served: Served, windows: Windows) -> Meter:
    # The producer judged the future by its own look at the clock; what it took a moment ago is marked here too.
    until_ms = meter.now_ms + DAY_MS + FUTURE_MAX_MS
    return mark(meter, (each for each in served.windows if each[0] <= until_ms), windows)


def _looked(meter: Meter, read: LedgerRead, windows: Windows) -> Meter:
    agreed, differing = set(read.agreed), {(each.root, each.start_ms) for each in read.untold}
    left = [e for e in meter.marked if (e.dimensions.root, e.start_ms, e.number) not in agreed]
    for place, each in enumerate(left):
        if (each.dimensions.root, each.start_ms) in differing:
            due_ms = windows.told_again_at(each.looks + 1, due_ms=each.due_ms, now_ms=meter.now_ms)
            left[place] = replace(each, looks=each.looks + 1, due_ms=due_ms)
    return replace(meter, marked=tuple(left))


def _wake_at(meter: Meter, next_ms: int | None) -> int | None:
    later = [each.due_ms for each in meter.marked if each.due_ms > meter.now_ms]
    return min([*later, *([] if next_ms is None else [next_ms])], default=None)
