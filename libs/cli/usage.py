"""Usage for people: an endpoint a line, its requests and tokens, and the GPU time that it held."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from rich.table import Table

from libs.cli.output import duration, table
from libs.common.events.usage import Meter

TOKENS: Final = (Meter.REQUESTS, Meter.PROMPT_TOKENS, Meter.COMPLETION_TOKENS)
ACCOUNTS: Final = ("loading", "serving", "draining")
COLUMNS: Final = (
    *("endpoint", "requests", "prompt tokens", "answer tokens"),
    *(f"gpu time {each}" for each in ACCOUNTS),
)


def usage_table(items: Iterable[dict[str, Any]]) -> Table | str:
    """The totals of the ledger; GPU time is that of all GPUs together, by what the endpoint did meanwhile."""
    sums: dict[str, dict[tuple[str, str], int]] = {}
    for each in items:
        sums.setdefault(each["endpoint_id"], {})[each["meter"], each["account"]] = each["quantity"]
    if not sums:
        return "nothing was used"
    rows = [
        (
            endpoint,
            *(found.get((meter, ""), 0) for meter in TOKENS),
            *(duration(found.get((Meter.GPU_MS, account), 0)) for account in ACCOUNTS),
        )
        for endpoint, found in sorted(sums.items())
    ]
    return table(COLUMNS, rows, whole=COLUMNS[:1], right=COLUMNS[1:])
