"""Budgets over HTTP: what each allows in a month, what is spent of it, and what routers hold of it now."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request

from libs.common.clock import Clock
from libs.common.runner import Runner
from libs.common.units import SECOND_MS
from services.metering.core.budgets import Budget, spender_of
from services.metering.core.money import UNLIMITED, looked
from services.metering.core.periods import period_of
from services.metering.shell.purse import Limits, Purses
from services.metering.shell.routes import ALL, REFUSALS, Who
from services.metering.shell.views import BudgetsView, BudgetView


class Budgets:
    """Answers what budgets there are and how much of each is left."""

    def __init__(self, limits: Limits, purses: Purses, runner: Runner[Budget], clock: Clock) -> None:
        self._limits = limits
        self._purses = purses
        self._runner = runner
        self._clock = clock

    def of(self, tenant: str, period: str | None) -> BudgetsView:
        """The budgets of a tenant and its projects in a month; now, if none is named. Raises Invalid for no month."""
        now = datetime.fromtimestamp(self._clock.now_ms() / SECOND_MS, UTC)
        month = period_of(period or f"{now:%Y-%m}")
        return BudgetsView(items=tuple(self._views(tenant, month.name)))

    def _views(self, tenant: str, period: str) -> Iterator[BudgetView]:
        for name in self._limits.names():
            tenant_id, project_id, key_id = spender_of(name)
            if tenant not in (ALL, tenant_id):
                continue
            key = f"{name}@{period}"
            budget = self._runner.state(key) or Budget(key)
            money = self._purses.money_of(name, period)
            spending = budget.spending if money is None else looked(budget.spending, money, out=budget.out)
            tokens = self._limits.of(name)
            yield BudgetView(
                tenant_id=tenant_id,
                project_id=project_id,
                key_id=key_id,
                period=period,
                tokens_limit=None if tokens == UNLIMITED else tokens,
                tokens_spent=budget.spent,
                tokens_held=budget.out - budget.spent,
                money_limit_nano=None if money is None else money.limit,
                money_spent_nano=None if money is None else spending.charged,
                money_held_nano=None if money is None else spending.held,
                currency=None if money is None else money.currency,
                is_priced=money is None or money.dearest is not None,
                alerted_percent=max((*budget.alerted, *budget.spending.alerted), default=0),
            )


def _budgets(request: Request) -> Budgets:
    budgets: Budgets = request.app.state.budgets
    return budgets


Month = Annotated[
    str | None, Query(pattern=r"^\d{4}-\d{2}$", description="A month of UTC, like 2026-11; left out, this one.")
]


def get_budgets(who: Who, budgets: Annotated[Budgets, Depends(_budgets)], period: Month = None) -> BudgetsView:
    """The budgets of the tenant and its projects; money is what the ledger has, a second ago at most."""
    return budgets.of(who, period)


def router() -> APIRouter:
    """The routes."""
    found = APIRouter(tags=["budgets"])
    found.add_api_route("/v1/budgets", get_budgets, methods=["GET"], responses=REFUSALS)
    return found
