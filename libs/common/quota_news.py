"""Quotas as the `quotas` bucket tells them to whoever holds somebody to them."""

from __future__ import annotations

import logging

from pydantic import ValidationError

from libs.common.events.tables import QuotaEntry
from libs.common.telemetry.logging import fields

log = logging.getLogger(__name__)


def learn_quota(entries: dict[str, QuotaEntry], key: str, value: bytes | None) -> None:
    """Take one change of the `quotas` bucket into the entries. A value that we can't read changes nothing."""
    try:
        entry = None if value is None else QuotaEntry.model_validate_json(value)
    except ValidationError:
        log.warning("quota is unreadable; kept the one before", extra=fields(reason=key))
        return
    if entry is None:
        entries.pop(key, None)
    else:
        entries[key] = entry
