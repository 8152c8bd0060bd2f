"""Stripe meter events: one a call, told apart by `identifier` for a day, whole numbers, at most 35 days old.

More is added by a second event. Less means taking events back, each within 24 hours of its sending, and adding the
rest again; after that the difference is parked as a credit to give. An account that takes negative values needs none
of it, if its operator says so.
"""

from __future__ import annotations

import re
from typing import Final

from libs.common.units import DAY_MS, HOUR_MS
from services.metering.core.exports.receiver import Limits
from services.metering.core.exports.state import Intent

DEDUPES_MS: Final = 24 * HOUR_MS
CANCELS_MS: Final = 24 * HOUR_MS
PAST_MS: Final = 35 * DAY_MS
BATCH_MAX: Final = 32  # Calls between two looks at the clock; there is no batch.
DUPLICATE: Final = re.compile(r"already exists with identifier|duplicate identifier")  # It comes without its code too.


def limits(*, takes_negative: bool) -> Limits:
    """Its limits; `takes_negative` as the account was agreed."""
    return Limits(
        takes_negative=takes_negative,
        batch_max=BATCH_MAX,
        dedupes_ms=DEDUPES_MS,
        cancels_ms=CANCELS_MS,
        past_ms=PAST_MS,
        takes_parts=False,
    )


def event_of(intent: Intent) -> dict[str, str]:
    """The form of an addition."""
    return {
        "event_name": intent.code.name,
        "identifier": intent.id,
        "timestamp": str(intent.sold.start_ms // 1000),
        "payload[stripe_customer_id]": intent.customer,
        f"payload[{'value' if intent.code.field == 'quantity' else intent.code.field}]": str(intent.quantity),
    }


def cancel_of(intent: Intent) -> dict[str, str]:
    """The form of a cancellation."""
    return {"event_name": intent.code.name, "type": "cancel", "cancel[identifier]": intent.cancels}


def is_duplicate(code: str, message: str) -> bool:
    """Whether a refusal says that it has the event already."""
    return code == "duplicate_meter_event" or DUPLICATE.search(message) is not None
