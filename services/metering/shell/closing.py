"""Closing a period over a store: a statement of each tenant, each in a commit of its own, then the books.

A crash anywhere, and the same again: statements that are written stay, the rest are written. What enters the ledger
while a statement is made is in it or in the next, never in none or both: the next subtracts what was stated.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Final

from libs.common.clock import Clock
from libs.common.errors import Conflict
from libs.common.events.envelope import Envelope
from libs.common.events.event import Internal
from libs.common.ids import event_id
from libs.common.runner import Owned, Runner
from libs.common.store.port import Store, Sum
from libs.common.units import DAY_MS
from services.metering.core.accounts import is_unbilled
from services.metering.core.intake import AGE_MAX_MS
from services.metering.core.periods import Books, Period, period_of, refuse_early, refuse_gap
from services.metering.core.statement import (
    Closed,
    Stated,
    StatedLine,
    Statement,
    broken,
    decide_books,
    decide_statement,
    stated_lines,
)

BOOKS: Final = "books"
LEDGER: Final = "ledger"  # The only key of the books.
STATEMENT: Final = "statement"
BEFORE_ALL: Final = "before"
# Closed periods whose late entries are still billed: as many days as an entry may come late, and a month in which
# nobody closes one. What is left out would be in the ledger, and in no statement ever.
EARLIER_MAX: Final = AGE_MAX_MS // DAY_MS + 31


class Closing:
    """Closes periods, and reads what was stated."""

    def __init__(self, store: Store, clock: Clock, *, late_ms: int) -> None:
        self._store = store
        self._clock = clock
        self._late_ms = late_ms
        statements = Owned(STATEMENT, Statement, Statement, decide_statement, hears={}, scope=lambda each: each.tenant)
        self._statements = Runner(statements, store=store, clock=clock)
        self._books = Runner(Owned(BOOKS, Books, Books, decide_books, hears={}), store=store, clock=clock)

    def books(self) -> Books:
        """Which periods are closed."""
        return self._books.state(LEDGER) or Books(LEDGER)

    def close(self, name: str) -> Sequence[Statement]:
        """Close a period, and return its statements; the same ones for a period that is closed.

        Raises Invalid for what is no period; Conflict before its late window is over, or if it leaves a gap.
        """
        period, closed = period_of(name), self.books().closed
        if period not in closed:
            refuse_early(period, now_ms=self._clock.now_ms(), late_ms=self._late_ms)
            refuse_gap(period, closed)
            if not closed:
                self._refuse_earlier_entries(period)
            for tenant, lines in self.drafts(period):
                self._state(tenant, period, lines)
            self._take(self._books, LEDGER, Closed(period=period), period.name)
        return [each for each in self.statements() if each.period == name]

    def preview(self, name: str) -> Iterator[tuple[str, tuple[StatedLine, ...]]]:
        """Each tenant's lines if a period were closed now. Raises Invalid for none, Conflict if it leaves a gap."""
        period, closed = period_of(name), self.books().closed
        if period not in closed:
            refuse_gap(period, closed)
        yield from self.drafts(period)

    def drafts(self, period: Period) -> Iterator[tuple[str, tuple[StatedLine, ...]]]:
        """Each tenant's lines, as they would be stated now; changes nothing."""
        own = self._by_tenant(period)
        earlier = [(each, self._by_tenant(each)) for each in self._before(period)]
        tenants = {*own, *(tenant for _, sums in earlier for tenant in sums)}
        for tenant in sorted(tenants):
            said = [each for each in self.statements(tenant) if each.period != period.name]
            lines = stated_lines(
                period, own.get(tenant, ()), [(each, sums.get(tenant, ()), said) for each, sums in earlier]
            )
            if lines:
                yield tenant, lines

    def statements(self, tenant: str | None = None) -> Iterator[Statement]:
        """All statements, or those of a tenant; of a tenant in the order of its periods."""
        return self._statements.every(scope=tenant)

    def broken(self) -> tuple[str, ...]:
        """Statements that somebody changed, or that are missing before others."""
        return tuple(
            key for _, group in groupby(self.statements(), key=lambda each: each.tenant) for key in broken(group)
        )

    def _before(self, period: Period) -> Sequence[Period]:
        """The closed periods before one; first the time before all of them, of which late entries are billed too."""
        closed = [each for each in self.books().closed if each.end_ms <= period.start_ms]
        first_ms = closed[0].start_ms if closed else period.start_ms
        return (Period(BEFORE_ALL, 0, first_ms), *closed[-EARLIER_MAX:])

    def _state(self, tenant: str, period: Period, lines: tuple[StatedLine, ...]) -> None:
        before = [each.digest for each in self.statements(tenant) if each.period != period.name]
        stated = Stated(tenant=tenant, period=period.name, before=before[-1] if before else "", lines=lines)
        self._take(self._statements, f"{tenant}/{_order(period)}", stated, period.name)

    def _take(self, runner: Runner[Statement] | Runner[Books], key: str, event: Internal, period: str) -> None:
        cause = event_id(f"{runner.owned.kind}|{key}|{period}", event.kind, 0)
        runner.take(key, Envelope(cause, event, subject=key, time_ms=self._clock.now_ms()))

    def _by_tenant(self, period: Period) -> dict[str, list[Sum]]:
        found: dict[str, list[Sum]] = {}
        for each in self._store.sums(from_ms=period.start_ms, to_ms=period.end_ms):
            if not is_unbilled(each.account):
                found.setdefault(each.account.split("/", 1)[0], []).append(each)
        return found

    def _refuse_earlier_entries(self, period: Period) -> None:
        earlier = self._store.totals(from_ms=0, to_ms=period.start_ms)
        used = [each for each in earlier if each.quantity and not is_unbilled(each.account)]
        if used:
            raise Conflict(f"{used[0].account} has entries before {period.name}: close the periods before it first")


def _order(period: Period) -> str:
    """Periods in order of time as text, also months beside days."""
    return f"{period.start_ms:015d}"
