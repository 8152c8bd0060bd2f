"""Answers of the usage API for charts and pages: an ordinary tenant, a fleet, next to nothing, nothing, long names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

from libs.cli.usage_page import Usage
from libs.cli.usage_series import Span, span_of
from libs.common.units import DAY_MS, HOUR_MS

T0: Final = 1_795_824_000_000  # 2026-11-28 00:00 UTC.
NANO_PER_GPU_MS: Final = 692  # 2.49 an hour.
Row = tuple[str, str, str, str]  # Tenant, project, endpoint, model.

CHAT: Final[Row] = ("acme", "main", "ep-k3v9q2m7xa", "meta-llama/Llama-3.1-70B-Instruct")
CODE: Final[Row] = ("acme", "main", "ep-b8d2w4n6tc", "Qwen/Qwen2.5-Coder-32B")
TEST: Final[Row] = ("acme", "research", "ep-z5h1r7p3ke", "millrace/ngram-1")
LONG: Final[Row] = (
    "a-tenant-with-a-very-long-name-that-nobody-would-type",
    "a-project-with-a-name-as-long-as-it-may-be-0123456789-0123456789",
    "ep-" + "x" * 60,
    "an-organisation-of-many-words/a-model-with-<b>markup</b>-and-a-name-of-nearly-one-hundred-characters-v12-instruct",
)
BOOK: Final = {"id": "example-1", "currency": "USD"}


def usage(rows: Sequence[Row], span: Span, *, scale: int = 1000, priced: bool = True, tenant: str = "") -> Usage:
    """What these endpoints used over a span, busier by day than by night."""
    book = BOOK if priced else None
    return Usage(
        span=span,
        over_time={"items": [each for part in _over_time(rows, span, scale) for each in part], "price_book": book},
        by_name={
            "items": [each for row in rows for each in _by_name(row, rows, span, scale, priced)],
            "price_book": book,
        },
        made_ms=span.to_ms,
        tenant=tenant,
    )


def ordinary(*, priced: bool = True) -> Usage:
    """A tenant's two days."""
    return usage([CHAT, CODE, TEST], span_of(T0 - 2 * DAY_MS, T0), tenant="acme", priced=priced)


def fleet() -> Usage:
    """A month of many."""
    rows = [(f"tenant-{n % 5}", "main", f"ep-{n:02d}q2m7xa{n:02d}", CHAT[3] if n % 3 else CODE[3]) for n in range(17)]
    return usage(rows, span_of(T0 - 30 * DAY_MS, T0))


def small() -> Usage:
    """A first try: seconds of a GPU and a few tokens, in one hour."""
    span = Span(T0, T0 + HOUR_MS, "hour")
    return replace(usage([TEST], span, scale=0, tenant="acme"), made_ms=T0 + HOUR_MS // 2)


def nothing() -> Usage:
    """A time without any usage."""
    return Usage(span_of(T0, T0 + DAY_MS), {"items": []}, {"items": [], "price_book": BOOK}, T0 + DAY_MS, "acme")


def long_names() -> Usage:
    """Names as long as they may be, with what HTML would read as its own."""
    return usage([LONG, CHAT], span_of(T0 - 10 * DAY_MS, T0))


def _over_time(rows: Sequence[Row], span: Span, scale: int) -> Iterator[list[dict[str, Any]]]:
    for index, start_ms in enumerate(span.starts_ms):
        for account, quantity in _held(index, len(rows), span, scale).items():
            yield (
                [_item({span.interval: _iso(start_ms), "account": account}, "gpu_ms", quantity, None)]
                if quantity
                else []
            )
        for meter, quantity in _tokens(index, len(rows), scale).items():
            yield [_item({span.interval: _iso(start_ms), "account": ""}, meter, quantity, None)]


def _by_name(row: Row, rows: Sequence[Row], span: Span, scale: int, priced: bool) -> Iterator[dict[str, Any]]:
    share = 2 * (len(rows) - rows.index(row)), len(rows) * (len(rows) + 1)  # The first is the busiest.
    names = dict(zip(("tenant", "project", "endpoint", "model"), row, strict=True))
    sums: dict[tuple[str, str], int] = {}
    for index in range(len(span.starts_ms)):
        for account, quantity in _held(index, len(rows), span, scale).items():
            sums["gpu_ms", account] = sums.get(("gpu_ms", account), 0) + quantity
        for meter, quantity in _tokens(index, len(rows), scale).items():
            sums[meter, ""] = sums.get((meter, ""), 0) + quantity
    for (meter, account), quantity in sums.items():
        of_it = quantity * share[0] // share[1]
        cost = of_it * NANO_PER_GPU_MS if priced and account in ("serving", "loading", "draining") else None
        if of_it:
            yield _item({**names, "account": account}, meter, of_it, cost)


def _held(index: int, endpoints: int, span: Span, scale: int) -> dict[str, int]:
    size_ms = (DAY_MS if span.interval == "day" else HOUR_MS) * endpoints // 4
    if not scale:
        return {"loading": 21_400, "serving": 64_000}
    wave = (index * 7) % 24
    return {
        "serving": size_ms * (8 + min(wave, 24 - wave)),
        "loading": size_ms * 2 if index % 9 == 3 else 0,
        "draining": size_ms // 2 if index % 9 == 8 else 0,
        "idle_owned": size_ms // 3 if index % 9 == 8 else 0,
        "stranded": size_ms if index == 20 else 0,
    }


def _tokens(index: int, endpoints: int, scale: int) -> dict[str, int]:
    many = (20 + (index * 7) % 24) * endpoints * max(scale, 1)
    return {"requests": 1 + many // 700, "prompt_tokens": many * 9, "completion_tokens": many * 2}


def _item(group: dict[str, str], meter: str, quantity: int, cost: int | None) -> dict[str, Any]:
    return {"group": group, "meter": meter, "quantity": quantity, "cost_nano": cost}


def _iso(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat().replace("+00:00", "Z")
