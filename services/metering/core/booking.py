"""Booking held time: the difference between what should be in the ledger and what is, as lines of one window each.

What should be there is computed anew from everything heard, so late and disordered news end in the same sums; lines of
time that turns out to belong elsewhere are taken back by lines that name them, and it is booked where it belongs.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from libs.common.decision import Line
from libs.common.desire import ends_of
from libs.common.events.usage import Meter as MeterName
from libs.common.units import DAY_MS
from services.metering.core.accounts import NOBODY, Account, held_account, is_unbilled
from services.metering.core.labels import Labels, text_of
from services.metering.core.lines import changed
from services.metering.core.state import Dimensions, Meter, Node, Sale
from services.metering.core.things import KEEP_MS as THINGS_KEEP_MS
from services.metering.core.things import Thing, settled
from services.metering.core.things import wanted as wanted_of
from services.metering.core.timeline import (
    Span,
    UseSince,
    apart,
    borders,
    by_use,
    held,
    part,
    since,
    spans,
    until,
    uses_of,
    without,
)
from services.metering.core.windows import CATCH_UP_MAX, Windows

NO_SALE: Final = -1  # What a node is booked to whose endpoint nobody asked for; no request has this generation.
KEEP_MS: Final = 30 * DAY_MS  # News later than this changes nothing by itself; bounds a long-lived endpoint's record.


Wanted = Sequence[tuple[Node | Thing, tuple[Span, ...]]]


@dataclass(frozen=True, slots=True)
class Booking:
    """The meter after it booked, the lines, and when there is more to book (None: nothing is held).

    `touched` are the windows that got lines, each with what was sold last in it.
    """

    meter: Meter
    lines: tuple[Line, ...] = ()
    touched: tuple[tuple[int, Dimensions], ...] = ()
    next_ms: int | None = None


def book(meter: Meter, windows: Windows) -> Booking:
    """Book what was held up to `meter.now_ms`: what went, whole; what is still held, by closed windows."""
    if not meter.nodes and not meter.things.is_any:  # Most batches are of endpoints that nothing is booked for.
        return Booking(settle(replace(meter, booked_ms=max(meter.booked_ms, meter.now_ms)), windows))
    sales = [(each.since_ms, each.sold.generation) for each in sales_of(meter)]
    wanted: Wanted = (*_wanted(meter, sales), *_things(meter, sales))
    reach_ms = _reach(meter, wanted, windows)
    open_ms = windows.closed_until(reach_ms)
    nodes: list[Node] = []
    things: list[Thing] = []
    entries: list[tuple[Line, Dimensions]] = []
    for one, all_of_it in wanted:
        change = changed(one.booked, until(all_of_it, open_ms=open_ms, closed_ms=reach_ms), windows, again=one.again)
        again = one.again + bool(change.back)
        is_same = (change.booked, again) == (one.booked, one.again)
        parts = (*((each, -1) for each in change.back), *((each, 1) for each in change.new))
        if isinstance(one, Node):
            entries += [line for each, sign in parts for line in _lines(meter, one, each, sign)]
            nodes.append(one if is_same else replace(one, booked=change.booked, again=again))
        else:
            entries += [_line(meter, one, each, sign) for each, sign in parts]
            things.append(one if is_same else replace(one, booked=change.booked, again=again))
    after = replace(
        meter, nodes=tuple(nodes), things=replace(meter.things, booked=_kept(meter, things)), booked_ms=reach_ms
    )
    return Booking(
        settle(after, windows),
        tuple(line for line, _ in entries),
        touched=_touched(entries, windows),
        next_ms=_next(meter, wanted, reach_ms, windows),
    )


def put_off(meter: Meter, windows: Windows) -> Booking:
    """Book nothing: what was heard moves no time, and what time itself brings is booked when the next window closes."""
    is_any = bool(meter.nodes or meter.things.is_any)
    return Booking(meter, next_ms=windows.closes_next(meter.booked_ms) if is_any else None)


def ended_ms(meter: Meter) -> int | None:
    """When the endpoint was asked to go or to pause, or failed; None while it is wanted."""
    return min((each.at_ms for each in ends_of(meter.facts)), default=None)


def sales_of(meter: Meter) -> tuple[Sale, ...]:
    """The requests from which on something else was sold; one that sells the same begins nothing."""
    found: list[Sale] = []
    for each in meter.sales:
        if not found:
            found.append(replace(each, since_ms=0))  # Nothing was held before somebody asked for it.
        elif found[-1].sold.what != each.sold.what:
            found.append(replace(each, since_ms=max(each.since_ms, found[-1].since_ms)))
    return tuple(found)


def settle(meter: Meter, windows: Windows) -> Meter:
    """Forget windows that are older than KEEP_MS: they are in the ledger, and stay as they are."""
    things_ms = windows.start_of(max(0, meter.booked_ms - THINGS_KEEP_MS))
    if meter.things.is_any and things_ms > meter.things.settled_ms:
        meter = replace(meter, things=settled(meter.things, things_ms))
    before_ms = windows.start_of(meter.booked_ms - KEEP_MS)
    if before_ms <= meter.settled_ms:
        return meter
    nodes = [
        replace(
            each,
            happenings=since(each.happenings, before_ms),
            uses=_since(each.uses, before_ms),
            booked=tuple(_clip(each.booked, before_ms)),
        )
        for each in meter.nodes
        if any(interval.to_ms > before_ms for interval in held(each.happenings))
        or any(happening.at_ms >= before_ms for happening in each.happenings)
        or any(use.since_ms >= before_ms for use in each.uses)
    ]
    old = [each.sequence for each in meter.stages if each.since_ms <= before_ms]
    stages = tuple(each for each in meter.stages if each.sequence >= max(old, default=0))
    sold = [each.sequence for each in sales_of(meter) if each.since_ms <= before_ms]
    first = max(sold, default=0)  # What booked time was sold as; it must not change when others are forgotten.
    sales = tuple(each for each in meter.sales if each.sequence == first or each.since_ms > before_ms)
    return replace(meter, nodes=tuple(nodes), stages=stages, sales=sales, settled_ms=before_ms)


def _wanted(meter: Meter, sales: Sequence[tuple[int, int]]) -> list[tuple[Node, tuple[Span, ...]]]:
    if meter.dimensions is None:
        accounts: tuple[tuple[int, Account], ...] = ((0, Account.SERVING if meter.pool else Account.STRANDED),)
        sales = [(0, NO_SALE)]
    else:
        accounts = borders(meter.stages, ended_ms=ended_ms(meter))
    return [
        (each, apart(spans(held(each.happenings), _borders_of(each, accounts), from_ms=meter.settled_ms), sales))
        for each in meter.nodes
    ]


def _borders_of(node: Node, accounts: tuple[tuple[int, Account], ...]) -> tuple[tuple[int, Account], ...]:
    return by_use(accounts, uses_of(node.happenings, node.uses))


def _things(meter: Meter, sales: Sequence[tuple[int, int]]) -> list[tuple[Thing, tuple[Span, ...]]]:
    """Booked once it is known whose they are; until then they are only remembered."""
    if meter.dimensions is None:
        return []
    return [(each, wanted_of(meter.things, each, sales)) for each in meter.things.all]


def _kept(meter: Meter, things: list[Thing]) -> tuple[Thing, ...]:
    return (
        meter.things.booked if meter.dimensions is None else tuple(each for each in things if each.booked or each.again)
    )


def _reach(meter: Meter, wanted: Wanted, windows: Windows) -> int:
    """Now; or less after a long outage, so that one commit books a bounded number of windows."""
    unbooked = [each.from_ms for one, all_of_it in wanted for each in without(all_of_it, one.booked)]
    begin_ms = max(meter.booked_ms, min(unbooked, default=meter.now_ms))
    return max(meter.booked_ms, min(meter.now_ms, begin_ms + CATCH_UP_MAX * windows.size_ms))


def _next(meter: Meter, wanted: Wanted, reach_ms: int, windows: Windows) -> int | None:
    if not any(each.to_ms > reach_ms for _, all_of_it in wanted for each in all_of_it):
        return None
    return meter.now_ms + 1 if reach_ms < meter.now_ms else windows.closes_next(meter.now_ms)


def _touched(entries: Iterable[tuple[Line, Dimensions]], windows: Windows) -> tuple[tuple[int, Dimensions], ...]:
    in_order = sorted(entries, key=lambda each: (each[0].quantity >= 0, each[0].at_ms))
    last = {windows.start_of(line.at_ms): sold for line, sold in in_order if not is_unbilled(line.account)}
    return tuple((start_ms, last[start_ms]) for start_ms in sorted(last))


def _lines(meter: Meter, node: Node, span: Span, sign: int) -> list[tuple[Line, Dimensions]]:
    sold = _sold(meter, span.generation)
    name = f"{sold.endpoint_id}/{node.claim}/{span.again}/{span.from_ms}"
    account, labels = held_account(sold.root, span.account), text_of(_labels(sold, node))
    found = []
    for meter_name, quantity in _quantities(span):
        held_id = f"held/{name}/{meter_name}"
        content = _content(sold, node, span, corrects=held_id if sign < 0 else None)
        id_ = f"back/{name}/{meter_name}" if sign < 0 else held_id
        line = Line(id_, account, meter_name, sign * quantity, span.from_ms, content, labels=labels)
        found.append((line, sold))
    return found


def _line(meter: Meter, thing: Thing, span: Span, sign: int) -> tuple[Line, Dimensions]:
    sold = _sold(meter, span.generation)
    name = f"{sold.endpoint_id}/{thing.name}/{span.again}/{span.from_ms}"
    content = {
        **_whose(sold),
        "adapter": thing.adapter,
        **({"cached": thing.cached} if thing.cached else {}),
        "count": span.gpu_count,
        "from_ms": span.from_ms,
        "to_ms": span.to_ms,
        "corrects": f"held/{name}" if sign < 0 else None,
    }
    labels = replace(_labels(sold), adapter=thing.adapter)
    quantity = sign * span.gpu_count * (span.to_ms - span.from_ms)
    id_ = f"{'back' if sign < 0 else 'held'}/{name}"
    line = Line(id_, sold.root, thing.meter, quantity, span.from_ms, _written(content), labels=text_of(labels))
    return line, sold


def _quantities(span: Span) -> tuple[tuple[MeterName, int], ...]:
    held_ms = span.to_ms - span.from_ms
    gpu_ms = ((MeterName.GPU_MS, span.gpu_count * held_ms),) if span.gpu_count else ()
    return (*gpu_ms, (MeterName.NODE_MS, held_ms))


def _content(sold: Dimensions, node: Node, span: Span, *, corrects: str | None) -> bytes:
    content = {
        **_whose(sold),
        "claim": node.claim,
        "node_type": node.node_type,
        "gpu_count": span.gpu_count,
        "from_ms": span.from_ms,
        "to_ms": span.to_ms,
        "corrects": corrects,
    }
    return _written(content)


def _whose(sold: Dimensions) -> dict[str, object]:
    return {
        "tenant_id": sold.tenant_id,
        "project_id": sold.project_id,
        "endpoint_id": sold.endpoint_id,
        "generation": sold.generation,
        "model": sold.model,
        "tier": sold.tier,
        "region": sold.region,
        "tenancy": sold.tenancy,
    }


def _written(content: Mapping[str, object]) -> bytes:
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


def _labels(sold: Dimensions, node: Node | None = None) -> Labels:
    return Labels(
        model=sold.model,
        generation=sold.generation,
        tier=sold.tier,
        region=sold.region,
        node_class=node.node_type if node is not None else "",
        tenancy=sold.tenancy,
    )


def _sold(meter: Meter, generation: int) -> Dimensions:
    if meter.dimensions is None or generation == NO_SALE:
        return meter.pool or Dimensions(NOBODY, "-", meter.endpoint_id, NO_SALE, model="", tier="", region="")
    return next((each.sold for each in meter.sales if each.sold.generation == generation), meter.dimensions)


def _since(uses: tuple[UseSince, ...], before_ms: int) -> tuple[UseSince, ...]:
    """The newest of them that says what was so then, and all later ones."""
    first = max((each.sequence for each in uses if each.since_ms <= before_ms), default=0)
    return tuple(each for each in uses if each.sequence >= first)


def _clip(booked: Iterable[Span], from_ms: int) -> Iterable[Span]:
    return (part(each, max(each.from_ms, from_ms), each.to_ms) for each in booked if each.to_ms > from_ms)
