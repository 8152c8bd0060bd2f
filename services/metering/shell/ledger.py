"""Reading a ledger longer than memory: pages of whole milliseconds, so that a page needs only a time to go on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from libs.common.errors import Unavailable
from libs.common.store.port import Entry, Store

PAGE_MAX: Final = 1000
ONE_MS_MAX: Final = 1 << 20  # Entries of one millisecond that fit a page; a million a millisecond is no ledger of ours.


@dataclass(frozen=True, slots=True)
class Page:
    """Entries in order of time, and the time from which to read on (None: that was all)."""

    entries: tuple[Entry, ...]
    next_ms: int | None


def page(
    store: Store, accounts: Sequence[str | None], *, from_ms: int, to_ms: int | None = None, limit: int = PAGE_MAX
) -> Page:
    """About ``limit`` entries of these accounts (None: of all) over ``[from_ms, to_ms)``; always whole milliseconds."""
    parts = [_whole_ms(store, account, from_ms, to_ms, limit) for account in accounts]
    ends = [each.next_ms for each in parts if each.next_ms is not None]
    next_ms = min(ends, default=None)
    entries = (each for part in parts for each in part.entries if next_ms is None or each.at_ms < next_ms)
    return Page(tuple(sorted(entries, key=lambda each: (each.at_ms, each.id))), next_ms)


def every(store: Store, *, from_ms: int = 0, to_ms: int | None = None) -> Iterator[Sequence[Entry]]:
    """All entries over ``[from_ms, to_ms)``, a page at a time."""
    next_ms: int | None = from_ms
    while next_ms is not None:
        part = page(store, [None], from_ms=next_ms, to_ms=to_ms)
        yield part.entries
        next_ms = part.next_ms


def _whole_ms(store: Store, account: str | None, from_ms: int, to_ms: int | None, limit: int) -> Page:
    while limit <= ONE_MS_MAX:
        found = tuple(store.entries(account=account, from_ms=from_ms, to_ms=to_ms, limit=limit))
        if len(found) < limit:
            return Page(found, None)
        last_ms = found[-1].at_ms
        whole = tuple(each for each in found if each.at_ms < last_ms)
        if whole:
            return Page(whole, last_ms)
        limit *= 2  # All of one millisecond, and perhaps not all of that: ask for more.
    raise Unavailable(f"more than {ONE_MS_MAX} ledger entries at {from_ms}; read them from the database")
