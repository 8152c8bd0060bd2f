"""What operators see of every endpoint, as JSON: totals since the start; two looks give what happened between."""

from __future__ import annotations

from typing import Final

import msgspec

from libs.common.clock import Clock
from services.router.core.measures import Histogram, Measure, Measures
from services.router.shell.engines.table import RouteTable
from services.router.shell.engines.target import Target

ENDPOINTS_PAGE: Final = "/endpoints"


class Spread(msgspec.Struct):
    """A histogram: one more count than bounds."""

    bounds_s: tuple[float, ...]
    counts: list[int]
    sum_s: float


class Row(msgspec.Struct):
    """One endpoint. Counters never fall while it is there; what is in flight is as it is now."""

    endpoint_id: str
    tenant_id: str
    project_id: str
    name: str
    model: str
    tier: str
    region: str
    replicas: int
    outstanding: int
    in_flight: int  # Those that wait for a replica included.
    waiting: int
    finishes: dict[str, int]
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    first_token: Spread
    per_token: Spread
    queue: Spread
    duration: Spread


class Board(msgspec.Struct):
    """All endpoints of one router, as one of its workers serves them; `others` are the rest's admin ports."""

    instance: str
    now_ms: int
    endpoints: list[Row]
    others: tuple[int, ...] = ()


def endpoints_page(
    table: RouteTable, measures: Measures, clock: Clock, instance: str, others: tuple[int, ...] = ()
) -> bytes:
    """The board as JSON; also lets go of the measures of endpoints that are gone."""
    targets = table.targets()
    measures.keep({each.entry.endpoint_id for each in targets})
    found = measures.by_endpoint()
    rows = [_row(table, target, found.get(target.entry.endpoint_id, [])) for target in targets]
    rows.sort(key=lambda row: (row.tenant_id, row.name))
    return msgspec.json.encode(Board(instance, clock.now_ms(), rows, others))


def _row(table: RouteTable, target: Target, measures: list[Measure]) -> Row:
    entry = target.entry
    whole = Measure(entry.endpoint_id, entry.model, "")
    for each in measures:
        whole.merge(each)
    return Row(
        endpoint_id=entry.endpoint_id,
        tenant_id=entry.tenant_id,
        project_id=entry.project_id,
        name=entry.name,
        model=entry.model,
        tier=entry.tier,
        region=entry.region,
        replicas=len(target.seats),
        outstanding=sum(each.outstanding - each.outstanding_elsewhere for each in target.seats),
        in_flight=table.live(entry.endpoint_id),
        waiting=len(target.queue),
        finishes=whole.finishes,
        prompt_tokens=whole.prompt_tokens,
        cached_tokens=whole.cached_tokens,
        completion_tokens=whole.completion_tokens + table.unbilled_tokens(entry.endpoint_id),
        first_token=_spread(whole.first_token),
        per_token=_spread(whole.per_token),
        queue=_spread(whole.queue),
        duration=_spread(whole.duration),
    )


def _spread(histogram: Histogram) -> Spread:
    return Spread(histogram.bounds, histogram.counts, histogram.total)
