"""The read API: what was used, what that costs, and the ledger lines it is the sum of.

A key sees its own tenant's, and nothing else; the operator's key sees everybody's.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Header, Query, Request

from libs.common.clock import Clock
from libs.common.errors import Invalid
from libs.common.events.usage import Meter as Meters
from libs.common.keys import Keyring
from libs.common.store.port import Entry, Store, Sum
from services.metering.core.accounts import accounts_of, is_aside, parts_of
from services.metering.core.breakdown import By, broken_down, interval_ms, read_by
from services.metering.core.costs import costs_of
from services.metering.core.intake import ID
from services.metering.core.rating import PriceBook
from services.metering.core.state import Meter
from services.metering.shell import problems
from services.metering.shell.audit import FOREVER_MS, meter_of, meters
from services.metering.shell.ledger import PAGE_MAX, page
from services.metering.shell.views import EntryView, LedgerView, PriceBookView, ReceiptView, TotalView, UsageView

SCHEME: Final = "bearer "
SCOPES: Final = frozenset({"read", "manage"})
OPERATE: Final = "operate"  # The scope of who runs the whole, and has no tenant.
ALL: Final = "*"  # In place of a tenant: everybody's, and what nobody asked for. No tenant has this name.
REFUSALS: Final[dict[int | str, dict[str, Any]]] = {code: {"model": problems.Problem} for code in (401, 403, 422, 503)}
DEFAULT_BY: Final = (By.ENDPOINT, By.PROJECT, By.ACCOUNT)
GROUPS_MAX: Final = 10_000  # In one answer; a few megabytes.
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Reader:
    """Answers questions about the ledger, for one caller at a time."""

    def __init__(self, store: Store, keys: Keyring, clock: Clock, prices: PriceBook | None = None) -> None:
        self._store = store
        self._keys = keys
        self._clock = clock
        self._prices = prices

    def sight(self, authorization: str, project: str = "") -> str:
        """The tenant whose usage a key shows: its own; to the operator that of ``project``, or ALL.

        Raises Unauthorized or Forbidden.
        """
        plaintext = authorization[len(SCHEME) :] if authorization[: len(SCHEME)].lower() == SCHEME else ""
        entry = self._keys.check(plaintext, now_ms=self._clock.now_ms())
        if entry is None:
            raise problems.Unauthorized("send a key that is good as 'Authorization: Bearer <key>'")
        if OPERATE in entry.scopes:
            return project.partition("/")[0] or ALL
        if not SCOPES & set(entry.scopes):
            raise problems.Forbidden("this key may not read usage: use one with scope read or manage")
        return entry.tenant_id

    def usage(
        self, tenant: str, endpoint: str | None, *, from_ms: int, to_ms: int | None, by: tuple[By, ...] = DEFAULT_BY
    ) -> UsageView:
        """Totals of a tenant's endpoints, or of one; an endpoint of somebody else looks like none.

        Raises Invalid if there are more groups than an answer has room for.
        """
        sums = list(self._sums(tenant, endpoint, by, from_ms, to_ms))
        found = broken_down(sums, by)
        costs = costs_of(sums, by, self._prices) if self._prices else {}
        if len(found) > GROUPS_MAX:
            raise Invalid(f"more than {GROUPS_MAX} groups: ask for a shorter time, or by less")
        items = (
            TotalView(
                endpoint_id=group.get(By.ENDPOINT, ""),
                project_id=group.get(By.PROJECT, ""),
                meter=meter,
                account=group.get(By.ACCOUNT, ""),
                quantity=quantity,
                group=group,
                cost_nano=costs.get((tuple(group.values()), meter)),
            )
            for group, meter, quantity in found
        )
        return UsageView(from_ms=from_ms, to_ms=to_ms, items=tuple(items), price_book=book_view(self._prices))

    def receipt(self, tenant: str, request_id: str) -> ReceiptView:
        """The ledger lines of a request. Raises NotFound if the tenant has none such."""
        found = (
            self._store.entries_of([f"request/{request_id}/{m}" for m in Meters]) if ID.fullmatch(request_id) else []
        )
        if not found or any(tenant not in (ALL, each.account.split("/")[0]) for each in found):
            raise problems.NotFound("no such request in the ledger; one is there within seconds of its end")
        items = tuple(_entry(each, each.account.split("/")[2]) for each in found)
        sums = [Sum(each.account, each.meter, each.labels, 0, each.quantity) for each in found]
        costs = list(costs_of(sums, (), self._prices).values()) if self._prices else []
        priced = [each for each in costs if each is not None]
        cost_nano = sum(priced) if priced else None
        return ReceiptView(request_id=request_id, items=items, cost_nano=cost_nano, price_book=book_view(self._prices))

    def _sums(
        self, tenant: str, endpoint: str | None, by: tuple[By, ...], from_ms: int, to_ms: int | None
    ) -> Iterator[Sum]:
        roots: list[str | None] = [None if tenant == ALL else tenant]
        if endpoint is not None:
            roots = [each.dimensions.root for each in self._meters(tenant, endpoint) if each.dimensions]
        until_ms = FOREVER_MS if to_ms is None else to_ms
        for root in roots:
            found = self._store.sums(from_ms=from_ms, to_ms=until_ms, under=root, every_ms=interval_ms(by))
            yield from (each for each in found if not is_aside(each.account))

    def ledger(self, tenant: str, endpoint: str, *, from_ms: int, to_ms: int | None, limit: int) -> LedgerView:
        """About ``limit`` lines of an endpoint."""
        accounts = [
            account
            for meter in self._meters(tenant, endpoint)
            if meter.dimensions is not None
            for account, _name in accounts_of(meter.dimensions.root)
        ]
        found = page(self._store, accounts, from_ms=from_ms, to_ms=to_ms, limit=limit)
        cursor = None if found.next_ms is None else str(found.next_ms)
        return LedgerView(items=tuple(_entry(each, endpoint) for each in found.entries), cursor=cursor)

    def _meters(self, tenant: str, endpoint: str | None) -> Iterator[Meter]:
        if endpoint is None:
            yield from meters(self._store, tenant=None if tenant == ALL else tenant)
            return
        meter = meter_of(self._store, endpoint) if ID.fullmatch(endpoint) else None
        if meter is not None and meter.dimensions is not None and tenant in (ALL, meter.dimensions.tenant_id):
            yield meter


def book_view(prices: PriceBook | None) -> PriceBookView | None:
    """By which prices an answer counts."""
    return PriceBookView(id=prices.id, currency=prices.currency) if prices else None


def router() -> APIRouter:
    """The routes."""
    found = APIRouter(tags=["usage"])
    missing = {**REFUSALS, 404: {"model": problems.Problem}}
    found.add_api_route("/v1/usage", get_usage, methods=["GET"], responses=REFUSALS)
    found.add_api_route("/v1/usage/requests/{request_id}", get_receipt, methods=["GET"], responses=missing)
    found.add_api_route("/v1/ledger", get_ledger, methods=["GET"], responses=REFUSALS)
    return found


PROJECT_HELP: Final = (
    "For the operator's key: the <tenant> or <tenant>/<project> whose tenant's usage is asked; all if empty."
)
Project = Annotated[str, Header(alias="x-millrace-project", max_length=200, description=PROJECT_HELP)]


def _reader(request: Request) -> Reader:
    reader: Reader = request.app.state.reader
    return reader


def _sight(request: Request, project: Project = "") -> str:
    return _reader(request).sight(request.headers.get("authorization", ""), project)


Reads = Annotated[Reader, Depends(_reader)]
Who = Annotated[str, Depends(_sight)]
From = Annotated[str | None, Query(alias="from", max_length=40, description="Epoch milliseconds, or RFC 3339.")]
To = Annotated[str | None, Query(alias="to", max_length=40, description="Not included. As `from`.")]
Groups = Annotated[
    str | None, Query(max_length=200, description=f"Some of {', '.join(By)}, with commas; hours and days are of UTC.")
]
Limit = Annotated[int, Query(ge=1, le=PAGE_MAX)]


def get_usage(
    who: Who,
    reader: Reads,
    endpoint: str | None = None,
    since: From = None,
    until: To = None,
    group_by: Groups = None,
) -> UsageView:
    """Totals by endpoint, meter and account; or by the dimensions of `group_by`, and always by meter."""
    by = DEFAULT_BY if group_by is None else read_by(group_by)
    from_ms, to_ms = span_of(since, until)
    return reader.usage(who, endpoint, from_ms=from_ms, to_ms=to_ms, by=by)


def get_receipt(who: Who, reader: Reads, request_id: str) -> ReceiptView:
    """What one request was billed as: its lines in the ledger."""
    return reader.receipt(who, request_id)


def get_ledger(
    who: Who,
    reader: Reads,
    endpoint: str,
    since: From = None,
    until: To = None,
    cursor: str | None = None,
    limit: Limit = 200,
) -> LedgerView:
    """The lines of one endpoint, a page at a time."""
    from_ms, to_ms = span_of(since, until)
    return reader.ledger(who, endpoint, from_ms=max(from_ms, time_of(cursor) or 0), to_ms=to_ms, limit=limit)


def span_of(since: str | None, until: str | None) -> tuple[int, int | None]:
    """A time from when to when, without its end. Raises Invalid, also where it ends before it begins."""
    from_ms, to_ms = time_of(since) or 0, time_of(until)
    if to_ms is not None and to_ms < from_ms:
        raise Invalid("`to` is before `from`: nothing is between them")
    return from_ms, to_ms


def time_of(text: str | None) -> int | None:
    """Epoch milliseconds from what a client wrote. Raises Invalid."""
    if text is None:
        return None
    if text.isascii() and text.isdigit() and len(text) <= 15:  # Year 33,658; longer is a slip, not a time.
        return int(text)
    try:
        when = datetime.fromisoformat(text)
        return (when - EPOCH) // timedelta(milliseconds=1)
    except (ValueError, TypeError):
        raise Invalid("a time is epoch milliseconds, or RFC 3339 with a zone like 2026-11-23T00:00:00Z") from None


def _entry(entry: Entry, endpoint: str) -> EntryView:
    return EntryView(
        id=entry.id,
        at_ms=entry.at_ms,
        endpoint_id=endpoint,
        meter=entry.meter,
        account=parts_of(entry.account)[1],
        quantity=entry.quantity,
        data=json.loads(entry.data),
    )
