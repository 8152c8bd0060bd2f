"""Usage for people: an endpoint a line, its requests and tokens, and the GPU time that it held."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from rich.table import Table

from libs.cli.output import duration, table
from libs.common.events.usage import Meter

TOKENS: Final = (Meter.REQUESTS, Meter.PROMPT_TOKENS, Meter.COMPLETION_TOKENS)
ACCOUNTS: Final = ("loading", "serving", "draining")
RARE: Final = ("idle_owned", "stranded")  # A column only where there is such time.
COLUMNS: Final = ("endpoint", "requests", "prompt tokens", "answer tokens")


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
    columns = (*COLUMNS, *(f"gpu time {each.replace('_', ' ')}" for each in accounts))
    return table(columns, rows, whole=columns[:1], right=columns[1:])
