"""Usage as tables: an endpoint or group a line, its requests and tokens, the GPU time it held, and what it cost."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from rich.markup import escape
from rich.table import Table

from libs.cli.output import duration, moment, table
from libs.cli.usage_series import meter_name, money, quantity_of
from libs.common.events.usage import Meter

TOKENS: Final = (Meter.REQUESTS, Meter.PROMPT_TOKENS, Meter.COMPLETION_TOKENS)
ACCOUNTS: Final = ("loading", "serving", "draining")
RARE: Final = ("idle_owned", "warm", "stranded")  # A column only where there is such time.
NOTHING: Final = "nothing was used"
COLUMNS: Final = ("endpoint", "requests", "tokens in", "tokens out")


def breakdown_table(found: dict[str, Any]) -> Table | str:
    """Usage by dimensions: a group a line, its meters beside one another; times are those of all GPUs or nodes."""
    items: Sequence[dict[str, Any]] = found["items"]
    if not items:
        return NOTHING
    meters = [each for each in Meter if any(item["meter"] == each for item in items)]
    sums: dict[tuple[str, ...], dict[str, int]] = {}
    for each in items:
        sums.setdefault(tuple(each["group"].values()), {})[each["meter"]] = each["quantity"]
    costs = _costs(found, lambda each: tuple(each["group"].values()))
    rows = [
        (*group, *(quantity_of(meter, used.get(meter, 0)) for meter in meters), *costs.get(group, ()))
        for group, used in sorted(sums.items())
    ]
    names = tuple(items[0]["group"])
    columns = (*names, *map(meter_name, meters), *(["cost"] if costs else []))
    return _noted(found, table(columns, rows, whole=names[:1], right=columns[len(names) :]))


def usage_table(found: dict[str, Any]) -> Table | str:
    """The totals of the ledger; GPU time is that of all GPUs together, by what the endpoint did meanwhile."""
    sums: dict[str, dict[tuple[str, str], int]] = {}
    for each in found["items"]:
        sums.setdefault(each["endpoint_id"], {})[each["meter"], each["account"]] = each["quantity"]
    if not sums:
        return NOTHING
    held = {account for used in sums.values() for (_meter, account), quantity in used.items() if quantity}
    accounts = (*ACCOUNTS, *(each for each in RARE if each in held))
    costs = _costs(found, lambda each: str(each["endpoint_id"]))
    rows = [
        (
            endpoint,
            *(used.get((meter, ""), 0) for meter in TOKENS),
            *(duration(used.get((Meter.GPU_MS, account), 0)) for account in accounts),
            *costs.get(endpoint, ()),
        )
        for endpoint, used in sorted(sums.items())
    ]
    names = (*COLUMNS, *(f"gpu {each.removesuffix('_owned')}" for each in accounts), *(["cost"] if costs else []))
    return _noted(found, table(names, rows, whole=names[:1], right=names[1:]))


def receipt_table(found: dict[str, Any]) -> Table:
    """What one request was billed as: its lines in the ledger."""
    lines = [(each["meter"], each["quantity"], moment(_time(each["at_ms"])), each["id"]) for each in found["items"]]
    drawn = table(("meter", "quantity", "ended (UTC)", "ledger line"), lines, whole=("ledger line",))
    said = found["items"][0]["data"]
    about = f"{said['model']} on {found['items'][0]['endpoint_id']}, key {said['key_id']}: {said['finish']}"
    book = found["price_book"]
    cost = f"; {money(found['cost_nano'], book['currency'])} by {book['id']}" if found["cost_nano"] is not None else ""
    drawn.caption, drawn.caption_justify = escape(f"{about}; counts from {said['token_source']}{cost}"), "left"
    return drawn


def _costs(found: dict[str, Any], group: Callable[[dict[str, Any]], Any]) -> dict[Any, tuple[str]]:
    """What each group costs, of what of it has a price; nothing without a price book."""
    book = found.get("price_book")
    if not book:
        return {}
    sums: dict[Any, int] = {}
    for each in found["items"]:
        sums[group(each)] = sums.get(group(each), 0) + (each["cost_nano"] or 0)
    return {name: (money(nano, book["currency"]),) for name, nano in sums.items()}


def _noted(found: dict[str, Any], drawn: Table) -> Table:
    """The table with a line that says by which prices, and what has none."""
    if book := found.get("price_book"):
        free = sorted({_named(each) for each in found["items"] if each["cost_nano"] is None and each["quantity"]})
        without = f"; without a price there, so not in it: {', '.join(free)}" if free else ""
        drawn.caption, drawn.caption_justify = escape(f"cost by price book {book['id']}{without}"), "left"
    return drawn


def _named(item: dict[str, Any]) -> str:
    return f"{item['meter']}/{item['account']}" if item["account"] else str(item["meter"])


def _time(at_ms: int) -> str:
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat()
