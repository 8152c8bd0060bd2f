"""What tenants and projects may send a minute, as the bucket `quotas` tells it."""

from __future__ import annotations

import logging

from pydantic import ValidationError

from libs.common.events.endpoint import Limits
from libs.common.events.tables import KeyEntry, QuotaEntry, RouteEntry
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

    def budgets_of(self, entry: RouteEntry) -> list[str]:
        """The budgets that a request for this endpoint spends: its project's and its tenant's, as far as there are."""
        keys = (f"{entry.tenant_id}.{entry.project_id}", entry.tenant_id)
        return [key for key in keys if (quota := self._entries.get(key)) and quota.tokens_per_month is not None]

    def budgets(self) -> list[str]:
        """All budgets that there are."""
        return [key for key, quota in list(self._entries.items()) if quota.tokens_per_month is not None]

    def limits_for(self, entry: RouteEntry, key: KeyEntry | None = None) -> list[Limit]:
        """What a request for this endpoint must pass: limits of the endpoint, of its key, its project, its tenant."""
        found = [limit for limit in (_limit(f"endpoint/{entry.endpoint_id}", entry.limits),) if limit is not None]
        if key is not None and key.concurrency is not None:
            found.append(Limit(f"key/{key.key_id}", at_once=key.concurrency))
        for name in (f"{entry.tenant_id}.{entry.project_id}", entry.tenant_id):
            quota = self._entries.get(name)
            limit = None if quota is None else _limit(f"quota/{name}", quota)
            if limit is not None:
                found.append(limit)
        return found


def _limit(bucket: str, said: Limits | QuotaEntry) -> Limit | None:
    """What was said, as one bucket's limit; None if nothing is limited."""
    requests, tokens, at_once = said.requests_per_minute, said.tokens_per_minute, said.concurrency
    if requests is None and tokens is None and at_once is None:
        return None
    return Limit(bucket, requests, tokens, at_once)
