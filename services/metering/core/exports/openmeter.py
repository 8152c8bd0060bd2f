"""OpenMeter: CloudEvents, told apart by `id` and `source`; a correction is an event of the difference, which SUM takes.

Its deduplication is off unless the operator of it turns it on, and then forgets after a time that they set.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

from services.metering.core.exports.receiver import Limits
from services.metering.core.exports.state import Intent

SOURCE: Final = "urn:millrace:metering"
BATCH_MAX: Final = 100  # It names no limit; this bounds what one bad event makes us send again.


def limits(*, dedupes_ms: int) -> Limits:
    """Its limits, with the time that its operator set for deduplication (0: off)."""
    return Limits(takes_negative=True, batch_max=BATCH_MAX, dedupes_ms=dedupes_ms)


def event_of(intent: Intent) -> dict[str, object]:
    """The CloudEvent. Quantities are text, so that no reader on the way makes a float of them."""
    sold = intent.sold
    return {
        "specversion": "1.0",
        "type": intent.code.name,
        "source": SOURCE,
        "id": intent.id,
        "time": time_text(sold.start_ms),
        "subject": intent.customer,
        "data": {
            intent.code.field: str(intent.quantity),
            "tenant": sold.tenant_id,
            "project": sold.project_id,
            "endpoint": sold.endpoint_id,
            "generation": sold.generation,
            "model": sold.model,
            "tier": sold.tier,
            "region": sold.region,
            "account": sold.account,
            "adapter": sold.adapter,
            "class": sold.node_class,
            "tenancy": sold.tenancy,
            "window_end": time_text(sold.end_ms),
            "revision": intent.revision,
        },
    }


def time_text(at_ms: int) -> str:
    """RFC 3339, to the millisecond."""
    seconds, ms = divmod(at_ms, 1000)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%S}.{ms:03d}Z"
