"""What tenants and projects may send a minute, as the bucket `quotas` tells it."""

from __future__ import annotations

import logging

from pydantic import ValidationError

from libs.common.events.tables import QuotaEntry, RouteEntry
from libs.common.telemetry.logging import fields
from services.router.core.limits import Limit

log = logging.getLogger(__name__)


class QuotaTable:
    """The quotas that hold now. Changes come in any thread; each replaces one entry."""

    def __init__(self) -> None:
        self._entries: dict[str, QuotaEntry] = {}

    def change(self, key: str, value: bytes | None) -> None:
        """A key of the bucket was set or deleted. A value that we can't read changes nothing."""
        if value is None:
            self._entries.pop(key, None)
            return
        try:
            self._entries[key] = QuotaEntry.model_validate_json(value)
        except ValidationError:
            log.warning("quota is unreadable; kept the one before", extra=fields(reason=key))

    def limits_for(self, entry: RouteEntry) -> list[Limit]:
        """The limits that a request for this endpoint must pass: the endpoint's own, its project's, its tenant's."""
        found: list[Limit] = []
        own = entry.limits
        if own.requests_per_minute is not None or own.tokens_per_minute is not None:
            found.append(Limit(f"endpoint/{entry.endpoint_id}", own.requests_per_minute, own.tokens_per_minute))
        for key in (f"{entry.tenant_id}.{entry.project_id}", entry.tenant_id):
            quota = self._entries.get(key)
            if quota and (quota.requests_per_minute is not None or quota.tokens_per_minute is not None):
                found.append(Limit(f"quota/{key}", quota.requests_per_minute, quota.tokens_per_minute))
        return found
