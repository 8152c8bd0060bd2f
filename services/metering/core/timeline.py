"""Held time: which node was held when, and what its time was spent on.

Both are folds over everything heard, ordered by the teller's sequence, so the order of arrival cannot matter. A clock
that steps back never makes two intervals of one node overlap: an interval begins no earlier than the last one ended.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from libs.common.events.capacity import NodeUse
from libs.common.events.endpoint import Stage
from services.metering.core.accounts import ACCOUNT_OF_STAGE, ENDED, Account

T = TypeVar("T")
FOREVER_MS: Final = 1 << 60


@dataclass(frozen=True, slots=True)
class Happening:
    """A node came (with this many GPUs) or went (`gpu_count` None), as its owner numbered it."""

    sequence: int
    at_ms: int
    gpu_count: int | None


@dataclass(frozen=True, slots=True)
class StageSince:
    """The endpoint was in this stage from `since_ms`, as its owner numbered it."""

    sequence: int
    since_ms: int
    stage: Stage


@dataclass(frozen=True, slots=True)
class UseSince:
    """What a node was held for from `since_ms`, as its owner numbered it; None: it was lost, and held for nobody."""

    sequence: int
    since_ms: int
    use: NodeUse | None


@dataclass(frozen=True, slots=True)
class Held:
    """A node held over ``[from_ms, to_ms)``."""

    from_ms: int
    to_ms: int
    gpu_count: int


@dataclass(frozen=True, slots=True)
class Span:
    """Held time in one account; `generation` is that of the request that says what was sold in it.

    Of booked time, `again` is how often lines of the node had been taken back before, and `cuts` are the beginnings of
    its lines that are not borders of windows.
    """

    from_ms: int
    to_ms: int
    gpu_count: int
    account: Account
    generation: int = 0
    again: int = 0
    cuts: tuple[int, ...] = ()


def held(happenings: Iterable[Happening]) -> tuple[Held, ...]:
    """The intervals over which a node was held; one that goes on ends at FOREVER_MS."""
    found: list[Held] = []
    open_ms, gpu_count, ended_ms = 0, None, 0
    for each in sorted(happenings, key=lambda happening: happening.sequence):
        at_ms = max(each.at_ms, ended_ms)
        if gpu_count is not None:
            at_ms = max(at_ms, open_ms)
            found.append(Held(open_ms, at_ms, gpu_count))
            ended_ms = at_ms
        open_ms, gpu_count = at_ms, each.gpu_count
    if gpu_count is not None:
        found.append(Held(open_ms, FOREVER_MS, gpu_count))
    return tuple(each for each in found if each.from_ms < each.to_ms)


def since(happenings: Sequence[Happening], before_ms: int) -> tuple[Happening, ...]:
    """The shortest end of a node's history, in order of sequence, that still says what is held from a time on."""
    old = 0
    while old < len(happenings) and happenings[old].at_ms <= before_ms:
        old += 1
    return tuple(happenings[max(0, old - 1) :])


def borders(stages: Iterable[StageSince], *, ended_ms: int | None) -> tuple[tuple[int, Account], ...]:
    """From when on time belongs to which account: loading until anything else is known.

    From the end on it is draining, and what stages of an end say; a stage that was told before the end was heard of,
    but says otherwise, counts no longer.
    """
    found: list[tuple[int, Account]] = [(0, Account.LOADING)]
    for each in sorted(stages, key=lambda stage: stage.sequence):
        found.append((max(each.since_ms, found[-1][0]), ACCOUNT_OF_STAGE[each.stage]))
    if ended_ms is None:
        return tuple(found)
    before = [each for each in found if each[0] < ended_ms or each[0] == 0]
    after = [each for each in found if each[0] >= ended_ms and each[1] in ENDED]
    return (*before, (ended_ms, Account.DRAINING), *after)


def uses_of(happenings: Iterable[Happening], uses: Iterable[UseSince]) -> tuple[UseSince, ...]:
    """What a node was held for: one that comes again under its name is not what it was before it went."""
    told = tuple(uses)
    came = (UseSince(each.sequence, each.at_ms, NodeUse.SERVING) for each in happenings if each.gpu_count is not None)
    return (*told, *came) if told else ()


def by_use(accounts: Sequence[tuple[int, Account]], uses: Iterable[UseSince]) -> tuple[tuple[int, Account], ...]:
    """The borders of one node: what it is held for where that was told, else what its endpoint does meanwhile."""
    changes: list[tuple[int, NodeUse | None]] = [(0, NodeUse.SERVING)]
    for each in sorted(uses, key=lambda use: use.sequence):
        changes.append((max(each.since_ms, changes[-1][0]), each.use))
    times = sorted({at_ms for at_ms, _ in (*accounts, *changes)})
    return tuple((at_ms, _used(_at(accounts, at_ms), _at(changes, at_ms))) for at_ms in times)


def _at(borders_: Sequence[tuple[int, T]], at_ms: int) -> T:
    return next(what for since_ms, what in reversed(borders_) if since_ms <= at_ms)


def _used(account: Account, use: NodeUse | None) -> Account:
    if use is None:
        return Account.STRANDED
    if account in ENDED or use is NodeUse.SERVING:
        return account
    return Account.WARM if use is NodeUse.WARM else Account.DRAINING


def spans(intervals: Iterable[Held], accounts: Sequence[tuple[int, Account]], *, from_ms: int) -> tuple[Span, ...]:
    """Held time cut at the accounts' borders, without what lies before ``from_ms``."""
    ends = [each[0] for each in accounts[1:]] + [FOREVER_MS]
    found: list[Span] = []
    for each in intervals:
        for (begin_ms, account), end_ms in zip(accounts, ends, strict=True):
            first, last = max(each.from_ms, begin_ms, from_ms), min(each.to_ms, end_ms)
            if first < last:
                found.append(Span(first, last, each.gpu_count, account))
    return tuple(found)


def apart(parts: Iterable[Span], sales: Sequence[tuple[int, int]]) -> tuple[Span, ...]:
    """The same time cut where something else was sold: from each time on what that generation says."""
    ends = [each[0] for each in sales[1:]] + [FOREVER_MS]
    found: list[Span] = []
    for each in parts:
        for (begin_ms, generation), end_ms in zip(sales, ends, strict=True):
            first, last = max(each.from_ms, begin_ms), min(each.to_ms, end_ms)
            if first < last:
                found.append(Span(first, last, each.gpu_count, each.account, generation))
    return tuple(found)


def until(wanted: Iterable[Span], *, open_ms: int, closed_ms: int) -> tuple[Span, ...]:
    """What may be booked: whole what has ended by ``closed_ms``, and of the rest what is before ``open_ms``."""
    found = []
    for each in wanted:
        to_ms = each.to_ms if each.to_ms <= closed_ms else min(each.to_ms, open_ms)
        if each.from_ms < to_ms:
            found.append(each if to_ms == each.to_ms else replace(each, to_ms=to_ms))
    return tuple(found)


def without(these: Iterable[Span], those: Sequence[Span]) -> tuple[Span, ...]:
    """What ``these`` have that ``those`` have not, where account, GPU count and what was sold are the same."""
    found: list[Span] = []
    for each in these:
        left = [(each.from_ms, each.to_ms)]
        for other in those:
            overlaps = other.from_ms < each.to_ms and each.from_ms < other.to_ms
            if overlaps and kind_of(other) == kind_of(each):
                left = [piece for whole in left for piece in _minus(whole, (other.from_ms, other.to_ms))]
        found += [part(each, first, last) for first, last in left]
    return tuple(found)


def part(span: Span, from_ms: int, to_ms: int) -> Span:
    """The span over a part of its time."""
    if (from_ms, to_ms) == (span.from_ms, span.to_ms):
        return span
    return replace(span, from_ms=from_ms, to_ms=to_ms, cuts=tuple(each for each in span.cuts if from_ms < each < to_ms))


def kind_of(span: Span) -> tuple[Account, int, int]:
    """What two spans have in common if they differ in time only."""
    return (span.account, span.gpu_count, span.generation)


def _minus(part: tuple[int, int], cut: tuple[int, int]) -> list[tuple[int, int]]:
    pieces = [(part[0], min(part[1], cut[0])), (max(part[0], cut[1]), part[1])]
    return [each for each in pieces if each[0] < each[1]]
