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
