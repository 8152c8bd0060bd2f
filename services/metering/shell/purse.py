"""Draws on budgets, taken with the limits that hold as they come: the journal has both, so a replay grants alike."""

from __future__ import annotations

import logging
from collections.abc import Mapping

from pydantic import ValidationError

from libs.common.events.envelope import Envelope
from libs.common.events.event import Event
from libs.common.events.route import BudgetDrawn
from libs.common.events.tables import QuotaEntry
from libs.common.telemetry.logging import fields
from services.metering.core.budgets import Drawn, key_of

log = logging.getLogger(__name__)


class Limits:
    """The budgets that were set, as the bucket `quotas` tells them."""

    def __init__(self) -> None:
        self._limits: dict[str, int] = {}

    def change(self, key: str, value: bytes | None) -> None:
        """A key of the bucket was set or deleted. A value that we can't read changes nothing."""
        try:
            limit = None if value is None else QuotaEntry.model_validate_json(value).tokens_per_month
        except ValidationError:
            log.warning("quota is unreadable; kept the one before", extra=fields(reason=key))
            return
        if limit is None:
            self._limits.pop(key, None)
        else:
            self._limits[key] = limit

    def of(self, budget: str) -> int | None:
        """The limit of a budget; None if none is set."""
        return self._limits.get(budget)

    def drawn_on(self, envelope: Envelope) -> Mapping[str, Event]:
        """The draw for each budget in its period, with the limits that hold now."""
        news = envelope.data
        assert isinstance(news, BudgetDrawn), envelope
        drawn = Drawn(news=news, limits={each.budget: self.of(each.budget) for each in news.draws})
        return {key_of(each): drawn for each in news.draws}
