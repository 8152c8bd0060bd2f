"""Usage for people: an endpoint a line, its requests and tokens, and the GPU time that it held."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Final

from rich.table import Table

from libs.cli.output import duration, table
from libs.common.events.usage import Meter

TOKENS: Final = (Meter.REQUESTS, Meter.PROMPT_TOKENS, Meter.COMPLETION_TOKENS)
ACCOUNTS: Final = ("loading", "serving", "draining")
RARE: Final = ("idle_owned", "stranded")  # A column only where there is such time.
COLUMNS: Final = ("endpoint", "requests", "tokens in", "tokens out")


BY_HELP: Final = (
    "Group by some of project, endpoint, model, generation, tier, class, region, tenancy, key, account, hour, day; "
    "with commas."
)


def breakdown_table(items: Sequence[dict[str, Any]]) -> Table | str:
    """Usage by dimensions: a group a line, its meters beside one another; times are those of all GPUs or nodes."""
    if not items:
        return "nothing was used"
    meters = [each for each in Meter if any(item["meter"] == each for item in items)]
    sums: dict[tuple[str, ...], dict[str, int]] = {}
    for each in items:
        sums.setdefault(tuple(each["group"].values()), {})[each["meter"]] = each["quantity"]
    rows = [(*group, *(_cell(meter, found.get(meter, 0)) for meter in meters)) for group, found in sorted(sums.items())]
    names = tuple(items[0]["group"])
    columns = (*names, *(each.removesuffix("_ms").replace("_", " ") for each in meters))
    return table(columns, rows, whole=names[:1], right=columns[len(names) :])


def usage_table(items: Iterable[dict[str, Any]]) -> Table | str:
    """The totals of the ledger; GPU time is that of all GPUs together, by what the endpoint did meanwhile."""
    sums: dict[str, dict[tuple[str, str], int]] = {}
    for each in items:
        sums.setdefault(each["endpoint_id"], {})[each["meter"], each["account"]] = each["quantity"]
    if not sums:
        return "nothing was used"
    held = {account for found in sums.values() for (_meter, account), quantity in found.items() if quantity}
    accounts = (*ACCOUNTS, *(each for each in RARE if each in held))
    rows = [
        (
            endpoint,
            *(found.get((meter, ""), 0) for meter in TOKENS),
            *(duration(found.get((Meter.GPU_MS, account), 0)) for account in accounts),
        )
        for endpoint, found in sorted(sums.items())
    ]
    columns = (*COLUMNS, *(f"gpu {each.removesuffix('_owned')}" for each in accounts))
    return table(columns, rows, whole=columns[:1], right=columns[1:])


def _cell(meter: str, quantity: int) -> str | int:
    return duration(quantity) if meter.endswith("_ms") else quantity
