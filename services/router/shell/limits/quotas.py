"""What tenants and projects may send a minute, as the bucket `quotas` tells it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from libs.common.events.endpoint import Limits
from libs.common.events.tables import KeyEntry, QuotaEntry, RouteEntry
from libs.common.keys import Keyring
from libs.common.quota_news import learn_quota
from services.router.core.budgets import Monthly
from services.router.core.limits import Limit

TERMS_MAX: Final = 4096  # Endpoints whose terms are kept.


@dataclass(frozen=True, slots=True)
class Terms:
    """Limits and budgets of one endpoint, of its project and its tenant; made once for many requests."""

    entry: RouteEntry
    limits: tuple[Limit, ...]
    budgets: tuple[str, ...]


class QuotaTable:
    """The quotas that hold now, and budgets of keys. Changes come in any thread; each replaces one entry."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._entries: dict[str, QuotaEntry] = {}
        self._terms: dict[str, Terms] = {}
        self.edition = object()  # Another one after each change.

    def change(self, key: str, value: bytes | None) -> None:
        """A key of the bucket was set or deleted. A value that we can't read changes nothing."""
        learn_quota(self._entries, key, value)
        self._terms, self.edition = {}, object()

    def terms_of(self, entry: RouteEntry) -> Terms:
        """What a request for this endpoint must pass and spends, whoever's it is; kept until a quota or route changes.

        What was kept is forgotten by putting another dict in its place: who looks meanwhile fills the old one.
        """
        kept = self._terms
        found = kept.get(entry.endpoint_id)
        if found is None or found.entry is not entry:
            if len(kept) >= TERMS_MAX:
                kept.clear()
            kept[entry.endpoint_id] = found = self._make(entry)
        return found

    def _make(self, entry: RouteEntry) -> Terms:
        names = (f"{entry.tenant_id}.{entry.project_id}", entry.tenant_id)
        said = [(name, quota) for name in names if (quota := self._entries.get(name)) is not None]
        limits = (
            _limit(f"endpoint/{entry.endpoint_id}", entry.limits),
            *(_limit(f"quota/{name}", quota) for name, quota in said),
        )
        return Terms(
            entry=entry,
            limits=tuple(each for each in limits if each is not None),
            budgets=tuple(name for name, quota in said if quota.tokens_per_month is not None),
        )

    def budgets(self) -> Iterator[tuple[str, Monthly]]:
        """All budgets that there are, and how much each is."""
        for name, quota in list(self._entries.items()):
            if quota.tokens_per_month is not None:
                yield name, (quota.tokens_per_month, quota.money_per_month_nano)
        for name in self._keyring.budgets():
            if (key := self._keyring.spender(name)) is not None:
                yield name, (key.tokens_per_month, key.money_per_month_nano)

    def limits_for(self, entry: RouteEntry, key: KeyEntry | None = None) -> tuple[Limit, ...]:
        """What a request for this endpoint must pass: limits of the endpoint, of its key, its project, its tenant."""
        limits = self.terms_of(entry).limits
        own = None if key is None else _limit(f"key/{key.key_id}", key)
        return limits if own is None else (*limits, own)


def _limit(bucket: str, said: Limits | QuotaEntry | KeyEntry) -> Limit | None:
    """What was said, as one bucket's limit; None if nothing is limited."""
    requests, tokens, at_once = said.requests_per_minute, said.tokens_per_minute, said.concurrency
    if requests is None and tokens is None and at_once is None:
        return None
    return Limit(bucket, requests, tokens, at_once)
