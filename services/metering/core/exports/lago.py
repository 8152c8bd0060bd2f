"""Lago events: batches of 100, all or nothing, told apart by `transaction_id` for ever; differences may be negative.

vBilling's codes fit where it counts the same: `vcluster_gpu_hours` with `gpu_hours`. An hour is no whole number of
most windows, so such a quantity is a decimal of twelve places, made from whole numbers; our own codes are exact.
"""

from __future__ import annotations

from typing import Final

from services.metering.core.exports.receiver import Limits
from services.metering.core.exports.state import Intent

BATCH_MAX: Final = 100
PLACES: Final = 12  # An hour is cut to 3.6 nanoseconds.
LIMITS: Final = Limits(takes_negative=True, batch_max=BATCH_MAX)
EXISTS: Final = "value_already_exist"


def event_of(intent: Intent) -> dict[str, object]:
    """The event."""
    sold = intent.sold
    seconds, ms = divmod(sold.start_ms, 1000)
    return {
        "transaction_id": intent.id,
        "external_subscription_id": intent.customer,
        "code": intent.code.name,
        "timestamp": f"{seconds}.{ms:03d}",
        "properties": {
            intent.code.field: decimal_text(intent.quantity, intent.code.per),
            "tenant": sold.tenant_id,
            "project": sold.project_id,
            "endpoint": sold.endpoint_id,
            "model": sold.model,
            "tier": sold.tier,
            "region": sold.region,
            "account": sold.account,
            "adapter": sold.adapter,
            "class": sold.node_class,
            "tenancy": sold.tenancy,
            "revision": str(intent.revision),
        },
    }


def decimal_text(quantity: int, per: int) -> str:
    """``quantity / per`` as a decimal, rounded half to even at twelve places; whole numbers have none."""
    if per == 1:
        return str(quantity)
    scaled, rest = divmod(abs(quantity) * 10**PLACES, per)
    if 2 * rest > per or (2 * rest == per and scaled % 2):
        scaled += 1
    whole, fraction = divmod(scaled, 10**PLACES)
    text = f"{whole}.{fraction:0{PLACES}d}".rstrip("0").rstrip(".")
    return f"-{text}" if quantity < 0 and scaled else text
