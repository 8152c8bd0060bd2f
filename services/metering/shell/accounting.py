"""What was stated, and what differs, over HTTP: statements for their tenant, the reconciliation for operators."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Body, Depends, Query, Request

from libs.common.store.port import Sum
from services.metering.core.accounts import parts_of
from services.metering.core.costs import costs_of
from services.metering.core.labels import labels_of
from services.metering.core.rating import PriceBook
from services.metering.core.reconcile import Claim, Finding
from services.metering.core.statement import StatedLine, Statement, broken
from services.metering.shell import problems
from services.metering.shell.closing import Closing
from services.metering.shell.reconciling import claims_in
from services.metering.shell.routes import ALL, REFUSALS, Who, book_view, time_of
from services.metering.shell.views import (
    FindingView,
    ReconciliationView,
    StatedLineView,
    StatementsView,
    StatementView,
    SummaryView,
)

Find = Callable[[Iterable[Claim] | None, int], tuple[Finding, ...]]


class Accounts:
    """Statements as they were written, and the reconciliation of today; `find` makes that."""

    def __init__(self, closing: Closing, find: Find, prices: PriceBook | None = None) -> None:
        self._closing = closing
        self._find = find
        self._prices = prices

    def statements(self, tenant: str) -> StatementsView:
        """Every statement of a tenant, or of all; whether each is still what was stated."""
        changed = {*self._closing.broken()}
        items = (
            SummaryView(
                tenant_id=each.tenant, period=each.period, lines=len(each.lines),
                corrections=sum(bool(line.corrects) for line in each.lines),
                digest=each.digest, before=each.before, is_as_stated=each.key not in changed,
                cost_nano=self._cost(each.lines),
            )
            for each in self._closing.statements(None if tenant == ALL else tenant)
        )  # fmt: skip
        return StatementsView(items=tuple(items), price_book=book_view(self._prices))

    def statement(self, tenant: str, period: str) -> StatementView:
        """A tenant's statement of a period, line by line. Raises NotFound if there is none."""
        said = [] if tenant == ALL else list(self._closing.statements(tenant))
        found = next((each for each in said if each.period == period), None)
        if found is None:
            raise problems.NotFound(
                "no such statement: a period has one once it is closed; operators name a tenant by x-millrace-project"
            )
        return StatementView(
            tenant_id=found.tenant,
            period=found.period,
            digest=found.digest,
            before=found.before,
            is_as_stated=_is_as_stated(found, said),
            lines=tuple(map(self._line, found.lines)),
            price_book=book_view(self._prices),
        )

    def reconciliation(self, who: str, claims: Iterable[Claim] | None, *, since_ms: int) -> ReconciliationView:
        """Every difference that there is now. Raises Forbidden to a tenant, and to an operator who names one."""
        if who != ALL:
            raise problems.Forbidden("a reconciliation is of all tenants: use an operator's key, and name no project")
        found = self._find(claims, since_ms)
        return ReconciliationView(
            items=tuple(FindingView(**asdict(each)) for each in found),
            lasting=sum(not each.is_passing for each in found),
            has_provider=claims is not None,
        )

    def _line(self, line: StatedLine) -> StatedLineView:
        root, account = parts_of(line.account)
        labels = labels_of(line.labels)
        return StatedLineView(
            id=line.id, endpoint_id=root.split("/")[-1], meter=line.meter, account=account, model=labels.model,
            tier=labels.tier, quantity=line.quantity, corrects=line.corrects, cost_nano=self._cost((line,)),
        )  # fmt: skip

    def _cost(self, lines: Iterable[StatedLine]) -> int | None:
        """What the lines with a price cost; None without a book, or where none of them has one."""
        if self._prices is None:
            return None
        sums = (Sum(each.account, each.meter, each.labels, 0, each.quantity) for each in lines)
        priced = [each for each in costs_of(sums, (), self._prices).values() if each is not None]
        return sum(priced) if priced else None


def _is_as_stated(found: Statement, said: Iterable[Statement]) -> bool:
    return found.key not in broken(said)


def _accounts(request: Request) -> Accounts:
    accounts: Accounts = request.app.state.accounts
    return accounts


Keeps = Annotated[Accounts, Depends(_accounts)]
Since = Annotated[str | None, Query(alias="from", max_length=40, description="Lines from here on; all if left out.")]
Claims = Annotated[
    dict[str, Any] | None, Body(description="The provider's claims: what `kubectl get nodeclaims -A -o json` writes.")
]


def get_statements(who: Who, accounts: Keeps) -> StatementsView:
    """The statements of closed periods, the oldest first."""
    return accounts.statements(who)


def get_statement(who: Who, accounts: Keeps, period: str) -> StatementView:
    """What one closed period stated, line by line; it never changes."""
    return accounts.statement(who, period)


def reconcile(who: Who, accounts: Keeps, since: Since = None, claims: Claims = None) -> ReconciliationView:
    """Hold provider, ledger, what was told and what was accepted against each other; changes nothing, for operators."""
    provider = None if claims is None else claims_in(json.dumps(claims))
    return accounts.reconciliation(who, provider, since_ms=time_of(since) or 0)


def router() -> APIRouter:
    """The routes."""
    found = APIRouter(tags=["accounts"])
    missing = {**REFUSALS, 404: {"model": problems.Problem}}
    found.add_api_route("/v1/statements", get_statements, methods=["GET"], responses=REFUSALS)
    found.add_api_route("/v1/statements/{period}", get_statement, methods=["GET"], responses=missing)
    found.add_api_route("/v1/reconciliations", reconcile, methods=["POST"], responses=REFUSALS)
    return found
