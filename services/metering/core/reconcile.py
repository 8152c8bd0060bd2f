"""The four accounts of one truth, held against each other: the provider, the ledger, what was told, what was accepted.

Each finding says which two figures differ, why that can be, and what repairs it. What will repair itself says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from libs.common.units import MINUTE_MS, SECOND_MS
from services.metering.core.audit import Check, Difference
from services.metering.core.exports.state import Export
from services.metering.core.state import Meter, Node, Producer, Window
from services.metering.core.timeline import FOREVER_MS, held

GRACE_MS: Final = 1 * MINUTE_MS  # What the provider and events may be apart: a node that just came or went.
APART_MS: Final = 2 * SECOND_MS  # The Platform tells times in whole seconds.


class Side(StrEnum):
    """Which two were held against each other."""

    CAPACITY = "provider_and_ledger"
    LEDGER = "ledger_and_itself"
    TOLD = "ledger_and_told"
    ACCEPTED = "told_and_accepted"
    ROUTERS = "routers_and_ledger"
    STATED = "statements_and_digests"


@dataclass(frozen=True, slots=True)
class Finding:
    """Two figures that differ, why, and what to do. `is_passing`: nothing, it will be gone by itself."""

    side: Side
    what: str
    ours: int
    theirs: int
    cause: str
    repair: str
    is_passing: bool = False


@dataclass(frozen=True, slots=True)
class Claim:
    """A node as the provider has it: joined since then, with so many GPUs as far as it says (None: it does not)."""

    name: str
    joined_ms: int


def capacity(meters: Iterable[Meter], claims: Iterable[Claim], *, now_ms: int) -> tuple[Finding, ...]:
    """Nodes that the provider lends and we do not count, that we count and it does not lend, and wrong beginnings."""
    lent = {each.name: each for each in claims}
    ours = {node.claim: (node, meter) for meter in meters for node in meter.nodes if _open_ms(node) is not None}
    return (*_uncounted(lent, ours, now_ms), *_vanished(lent, ours, now_ms), *_displaced(lent, ours))


Ours = Mapping[str, tuple[Node, Meter]]


def _uncounted(lent: Mapping[str, Claim], ours: Ours, now_ms: int) -> Iterable[Finding]:
    for name in sorted(lent.keys() - ours.keys()):
        age_ms = now_ms - lent[name].joined_ms
        if age_ms > GRACE_MS:
            yield Finding(
                Side.CAPACITY, f"claim {name}, ms held", 0, age_ms,
                cause="the provider lends it and no node.joined of it was heard, or node.released came too early",
                repair="have capacity-manager tell it again; its time is booked from when it joined",
            )  # fmt: skip


def _vanished(lent: Mapping[str, Claim], ours: Ours, now_ms: int) -> Iterable[Finding]:
    for name in sorted(ours.keys() - lent.keys()):
        node, meter = ours[name]
        held_ms = now_ms - (_open_ms(node) or 0)
        if held_ms > GRACE_MS:
            yield Finding(
                Side.CAPACITY, f"claim {name} of {meter.endpoint_id}, ms held", held_ms, 0,
                cause="it vanished behind our back, or its node.released was lost",
                repair="look whether capacity-manager runs: it tells node.released, and time after that is taken back",
            )  # fmt: skip


def _displaced(lent: Mapping[str, Claim], ours: Ours) -> Iterable[Finding]:
    for name in sorted(ours.keys() & lent.keys()):
        node, meter = ours[name]
        began_ms = _open_ms(node) or 0
        if abs(began_ms - lent[name].joined_ms) > APART_MS:
            yield Finding(
                Side.CAPACITY, f"claim {name} of {meter.endpoint_id}, joined at", began_ms, lent[name].joined_ms,
                cause="it left and came back between two looks, or a clock is wrong",
                repair="have capacity-manager tell node.released and node.joined of it; lines are moved by that",
            )  # fmt: skip


def _open_ms(node: Node) -> int | None:
    """Since when the node is held; None if it is not."""
    intervals = held(node.happenings)
    return intervals[-1].from_ms if intervals and intervals[-1].to_ms == FOREVER_MS else None


def ledger(differences: Iterable[Difference], waiting: frozenset[tuple[str, int]]) -> tuple[Finding, ...]:
    """What the audit found; ``waiting`` are the marked windows, by root and start: those will be told by themselves."""
    return tuple(_of(each, is_passing=_place(each.what) in waiting) for each in differences)


def _of(found: Difference, *, is_passing: bool) -> Finding:
    match found.check:
        case Check.TOTAL:
            side, cause = Side.LEDGER, "an entry or its sum was changed in the database"
            repair = "restore both from a backup, then let routers and capacity-manager tell what came since"
        case Check.HELD:
            side, cause = Side.LEDGER, "lines of held time were changed in the database, or are older than the record"
            repair = "restore from a backup; booking enters anew what is missing of the last 30 days"
        case Check.WINDOW:
            side, cause = Side.TOLD, "its entries changed after it was told" if not is_passing else "it is not yet told"
            repair = "none: it is told once it has settled" if is_passing else "look at its entries; late ones mark it"
    return Finding(side, found.what, found.ledger, found.other, cause, repair, is_passing=is_passing)


def _place(key: str) -> tuple[str, int]:
    """The root and start in the key of a window; what is no such key has none."""
    parts = key.split("/")
    is_window = len(parts) >= 6 and parts[5].isdigit()
    return ("/".join(parts[:3]), int(parts[5])) if is_window else ("", 0)


def accepted(name: str, told: Iterable[Window], exports: Iterable[Export]) -> tuple[Finding, ...]:
    """Windows of which a billing system accepted something else than was told; ``told`` are those that it bills."""
    of_window: dict[str, list[Export]] = {}
    for export in exports:
        of_window.setdefault(export.window, []).append(export)
    found = []
    for window in told:
        parts = of_window.get(window.key) or [Export(window.key)]
        held = sum(each.held for each in parts)
        # What explains most: that one waits for people, then that one waits to be sent.
        export = min(parts, key=lambda each: (each.parked is None, not each.waits, each.revision))
        if held != window.quantity or export.parked is not None:
            cause, repair, is_passing = _why(export, window)
            found.append(
                Finding(Side.ACCEPTED, f"{window.key} at {name}", window.quantity, held, cause, repair, is_passing)
            )
    return tuple(found)


def _why(export: Export, window: Window) -> tuple[str, str, bool]:
    if export.parked is not None:
        doubt = export.intent is not None
        repair = "look there, then export --resolve" if doubt else "remove the reason, then export --retry-parked"
        return f"parked: {export.parked}: {export.parked_detail}", repair, False
    if export.waits:
        return "it waits to be sent, or for an answer", "none while the export runs; else export --once", True
    if export.revision < window.revision:
        return "the export has not read that far, or the window began before its `since`", "export --backfill", True
    return "the record of what was accepted was changed", "compare with the receiver, restore the record", False


def routers(producers: Iterable[Producer]) -> tuple[Finding, ...]:
    """Batches that routers numbered and that never came: of those that run, and of boots that have ended."""
    known = tuple(producers)
    return (*_unheard(known), *(found for each in known for found in _ended(each)))


def _ended(producer: Producer) -> Iterable[Finding]:
    for boot, is_made_good in producer.boots.incomplete_before:
        heard = sum(last - max(first, 1) + 1 for first, last in boot.runs if last >= 1)
        yield Finding(
            Side.ROUTERS, f"{producer.instance}, batches of its ended boot {boot.boot_id}", heard, heard + boot.missing,
            cause="it was killed, or the bus lost them; a boot that ended sends nothing more",
            repair="none: a later boot brings all that it numbers, and with it what was not confirmed before"
            if is_made_good
            else "start a router on its journal (its volume): it sends again what was not confirmed; a journal that is "
            "lost with its disk is usage that nobody can bill",
            is_passing=is_made_good,
        )  # fmt: skip


def _unheard(producers: Iterable[Producer]) -> tuple[Finding, ...]:
    return tuple(
        Finding(
            Side.ROUTERS, f"{each.instance}, batches missing", 0, each.boots.missing_now,
            cause="the bus lost them, or they are dead letters",
            repair="none: routers send unconfirmed requests again every 30 s; if not, read mr.v1.dlq.metering-usage",
        )
        for each in producers
        if each.boots.missing_now
    )  # fmt: skip


def stated(broken: Iterable[str]) -> tuple[Finding, ...]:
    """Statements that are not what was stated."""
    return tuple(
        Finding(Side.STATED, each, 1, 0, "it was changed or one before it is gone", "restore it from a backup")
        for each in broken
    )
