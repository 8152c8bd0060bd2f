"""The signed file: a table of differences, each row with the total that its window has after it, and its manifest.

The sum of `quantity` over all rows of a window is its total; a row whose `id` came before is the same row.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Sequence
from typing import Final

from services.metering.core.exports.parquet import parquet_of
from services.metering.core.exports.receiver import Limits
from services.metering.core.exports.state import Intent

BATCH_MAX: Final = 1000  # Rows of a file.
LIMITS: Final = Limits(takes_negative=True, batch_max=BATCH_MAX)
COLUMNS: Final = (
    "id", "customer", "code", "meter", "account", "quantity", "total", "revision", "tenant", "project", "endpoint",
    "generation", "model", "tier", "region", "window_start_ms", "window_end_ms",
    "adapter", "class", "tenancy",
)  # fmt: skip
UNSAFE: Final = ("=", "+", "-", "@", "\t", "\r")  # A spreadsheet takes text that begins so for a formula.


def table_of(intents: Sequence[Intent]) -> bytes:
    """The rows as CSV (RFC 4180, UTF-8, with a header)."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    writer.writerows(_row(each, safe=_safe) for each in intents)
    return text.getvalue().encode()


def parquet_table_of(intents: Sequence[Intent]) -> bytes:
    """The rows as Parquet, for whoever loads them into a store of columns: the same, and numbers are numbers."""
    return parquet_of(COLUMNS, [_row(each, safe=str) for each in intents])


def manifest_of(
    *, number: int, name: str, table: bytes, intents: Sequence[Intent], previous: str, now_ms: int, parquet: bytes = b""
) -> bytes:
    """What a table is, so that nobody changes a row, a file, or takes one away: it names the manifest before it."""
    sums: dict[str, int] = {}
    for each in intents:
        sums[each.sold.meter_name] = sums.get(each.sold.meter_name, 0) + each.quantity
    manifest = {
        "version": 1,
        "number": number,
        "file": name,
        "sha256": hashlib.sha256(table).hexdigest(),
        "rows": len(intents),
        "sums": sums,
        "written_ms": now_ms,
        "previous_sha256": previous,
        **({"parquet_sha256": hashlib.sha256(parquet).hexdigest()} if parquet else {}),
    }
    return json.dumps(manifest, sort_keys=True, separators=(",", ":")).encode() + b"\n"


def _row(intent: Intent, *, safe: Callable[[str], str]) -> tuple[str | int, ...]:
    sold = intent.sold
    words = (sold.tenant_id, sold.project_id, sold.endpoint_id)
    return (
        intent.id,
        safe(intent.customer),
        safe(intent.code.name),
        str(sold.meter),
        sold.account,
        intent.quantity,
        intent.total,
        intent.revision,
        *map(safe, words),
        sold.generation,
        *map(safe, (sold.model, sold.tier, sold.region)),
        sold.start_ms,
        sold.end_ms,
        *map(safe, (sold.adapter, sold.node_class, sold.tenancy)),
    )


def _safe(text: str) -> str:
    return f"'{text}" if text.startswith(UNSAFE) else text
