"""Draws on budgets, taken with the limits that hold as they come: the journal has both, so a replay grants alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from libs.common.events.envelope import Envelope
from libs.common.events.event import Event
from libs.common.events.route import BudgetDrawn
from libs.common.events.tables import KeyEntry, QuotaEntry
from libs.common.keys import Keyring
from libs.common.quota_news import learn_quota
from libs.common.store.port import Store
from libs.common.units import DAY_MS
from services.metering.core.accounts import slice_account
from services.metering.core.budgets import Drawn, key_of
from services.metering.core.money import Money, money_of
from services.metering.core.rating import PriceBook

BUDGET: Final = "budget"
FOREVER_MS: Final = DAY_MS << 20  # Whole days, so that sums of days answer.


class Limits:
    """The budgets that were set, as the buckets `quotas` and `keys` tell them."""

    def __init__(self) -> None:
        self.keyring = Keyring()
        self._entries: dict[str, QuotaEntry] = {}

    def change(self, key: str, value: bytes | None) -> None:
        """A key of the bucket was set or deleted. A value that we can't read changes nothing."""
        learn_quota(self._entries, key, value)

    def names(self) -> Sequence[str]:
        """The budgets that are set, in order of their names."""
        of_quotas = (name for name, each in list(self._entries.items()) if each.tokens_per_month is not None)
        return sorted((*of_quotas, *self.keyring.budgets()))

    def of(self, budget: str) -> int | None:
        """The limit of a budget; None if none is set."""
        entry = self._entry(budget)
        return None if entry is None else entry.tokens_per_month

    def nano_of(self, budget: str) -> int | None:
        """The limit of a budget in money; None if none is set."""
        entry = self._entry(budget)
        return None if entry is None else entry.money_per_month_nano

    def _entry(self, budget: str) -> QuotaEntry | KeyEntry | None:
        return self._entries.get(budget) or self.keyring.spender(budget)


class Purses:
    """Draws, taken with what a decision on them needs: limits, and of budgets in money the ledger and the prices."""

    def __init__(self, limits: Limits, store: Store, prices: PriceBook | None) -> None:
        self._limits = limits
        self._store = store
        self._prices = prices

    def drawn_on(self, envelope: Envelope) -> Mapping[str, Event]:
        """The draw for each budget in its period, with the limits that hold now."""
        news = envelope.data
        assert isinstance(news, BudgetDrawn), envelope
        limits = {each.budget: self._limits.of(each.budget) for each in news.draws}
        money = {each.budget: found for each in news.draws if (found := self.money_of(each.budget, each.period))}
        drawn = Drawn(news=news, limits=limits, money=money)
        return {key_of(each): drawn for each in news.draws}

    def money_of(self, budget: str, period: str) -> Money | None:
        """A budget in money as it is now, by what the ledger has of it; None if it has no such limit.

        What the ledger has grows only: read before the decision, it may be too little, which is too careful.
        """
        limit = self._limits.nano_of(budget)
        if limit is None:
            return None
        sums = self._store.sums(from_ms=0, to_ms=FOREVER_MS, under=slice_account(f"{budget}@{period}"))
        return money_of(limit, sums, self._prices)
