"""What the read API answers with."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict


class View(BaseModel):
    """A record of the answer."""

    model_config = ConfigDict(frozen=True)


class TotalView(View):
    """How much of one meter a group used; `account` is empty for requests and tokens.

    `group` has the dimensions that were asked for, empty where they are not known; the others here are empty then.
    `cost_nano` is in billionths of the price book's currency; null without a book, or where any of it has no price.
    """

    endpoint_id: str
    project_id: str
    meter: str
    account: str
    quantity: int
    group: dict[str, str] = {}
    cost_nano: int | None = None


class PriceBookView(View):
    """By which prices costs were counted."""

    id: str
    currency: str


class UsageView(View):
    """Totals over ``[from_ms, to_ms)``."""

    from_ms: int
    to_ms: int | None
    items: tuple[TotalView, ...]
    price_book: PriceBookView | None = None


class EntryView(View):
    """One line of the ledger, with what it was counted from."""

    id: str
    at_ms: int
    endpoint_id: str
    meter: str
    account: str
    quantity: int
    data: dict[str, Any]


class ReceiptView(View):
    """The ledger lines of one request, and what those of them cost that have a price."""

    request_id: str
    items: tuple[EntryView, ...]
    cost_nano: int | None = None
    price_book: PriceBookView | None = None


class LedgerView(View):
    """Lines in order of time; `cursor` goes on behind them, null if that was all."""

    items: tuple[EntryView, ...]
    cursor: str | None


class SummaryView(View):
    """A statement without its lines. `before` is the digest of the tenant's statement before it, which it covers."""

    tenant_id: str
    period: str
    lines: int
    corrections: int
    digest: str
    before: str
    is_as_stated: bool
    cost_nano: int | None = None


class StatementsView(View):
    """Statements of closed periods; costs are by the prices of today."""

    items: tuple[SummaryView, ...]
    price_book: PriceBookView | None = None


class StatedLineView(View):
    """A quantity of a period. `corrects` is the id of the line of an earlier statement to which it is added."""

    id: str
    endpoint_id: str
    meter: str
    account: str
    model: str
    tier: str
    quantity: int
    corrects: str
    cost_nano: int | None = None


class StatementView(View):
    """A statement, as it was written."""

    tenant_id: str
    period: str
    digest: str
    before: str
    is_as_stated: bool
    lines: tuple[StatedLineView, ...]
    price_book: PriceBookView | None = None


class FindingView(View):
    """Two figures that differ, why, and what repairs it; `is_passing`: nothing need be done."""

    side: str
    what: str
    ours: int
    theirs: int
    cause: str
    repair: str
    is_passing: bool


class ReconciliationView(View):
    """What differs. `has_provider`: the provider's claims were among what was compared."""

    items: tuple[FindingView, ...]
    lasting: int
    has_provider: bool


class BudgetView(View):
    """A budget in a month. Tokens are counted as routers say they spent them, money as the ledger has the tokens.

    Held is what routers may spend without asking again, in money at the dearest price. Null: it has no such limit.
    `key_id`: it is the budget of that key and its successors.
    """

    tenant_id: str
    project_id: str
    period: str
    tokens_limit: int | None
    tokens_spent: int
    tokens_held: int
    money_limit_nano: int | None
    money_spent_nano: int | None
    money_held_nano: int | None
    currency: str | None
    is_priced: bool
    alerted_percent: int
    key_id: str = ""


class BudgetsView(View):
    """The budgets that are set."""

    items: tuple[BudgetView, ...]
