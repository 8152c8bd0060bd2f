"""The audit of a store: what an operator runs, what a running process repeats, and what the simulation checks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Final, TypeVar

from pydantic import TypeAdapter

from libs.common.store.port import Entry, Store
from libs.common.units import DAY_MS, HOUR_MS, MINUTE_MS
from services.metering.core.audit import Difference, Ledger, held_differs, totals_differ, windows_differ
from services.metering.core.state import Meter, Producer, Window
from services.metering.core.windows import Windows
from services.metering.shell.ledger import every

METER: Final = "meter"
PRODUCER: Final = "producer"
WINDOW: Final = "window"
FOREVER_MS: Final = 1 << 60
SUMMED_MAX_MS: Final = DAY_MS  # What is longer is read line by line, in the memory of its windows.
RECORDS_MAX: Final = 1000  # Read at a time.

_METERS: Final = TypeAdapter(Meter)
_PRODUCERS: Final = TypeAdapter(Producer)
_WINDOWS: Final = TypeAdapter(Window)
S = TypeVar("S")


def audit(
    store: Store, *, windows: Windows | None = None, from_ms: int = 0, to_ms: int = FOREVER_MS
) -> tuple[Difference, ...]:
    """Every figure that is not what another says it should be; nothing if all is well.

    A window that has not yet been told differs: look when nothing is waiting, or up to a time that has settled.
    `from_ms` and `to_ms` are borders of windows; without them, held time and windows that lost all lines are seen too.
    """
    ledger = Ledger(windows or windows_of(store))
    if to_ms - from_ms <= SUMMED_MAX_MS:
        ledger.add(_summed(store, ledger.windows, from_ms, to_ms))
    else:
        for entries in every(store, from_ms=from_ms, to_ms=to_ms):
            ledger.add(entries)
    totals = Counter[tuple[str, str]]()
    for each in store.sums(from_ms=from_ms, to_ms=to_ms):
        totals[each.account, each.meter] += each.quantity
    if (from_ms, to_ms) != (0, FOREVER_MS):
        known = (store.load(WINDOW, key) for key in ledger.by_key())
        told = [_WINDOWS.validate_json(each.state) for each in known if each is not None]
        return (*totals_differ(ledger, totals), *windows_differ(ledger, {each.key: each for each in told}))
    return (
        *totals_differ(ledger, totals),
        *windows_differ(ledger, {each.key: each for each in told_windows(store)}),
        *(each for meter in meters(store) for each in held_differs(ledger, meter)),
    )


def _summed(store: Store, windows: Windows, from_ms: int, to_ms: int) -> Iterator[Entry]:
    """The lines of a short time, as one a window of what the database sums them to: of a busy hour there are millions.

    By less than an hour, so that it looks at the lines, not at sums of hours that it is asked for too.
    """
    every_ms = windows.size_ms if windows.size_ms % HOUR_MS else MINUTE_MS
    for each in store.sums(from_ms=from_ms, to_ms=to_ms, every_ms=every_ms):
        yield Entry("", each.account, each.meter, each.quantity, each.start_ms, b"", each.labels)


def windows_of(store: Store) -> Windows:
    """How this store's windows are cut, from the first that was told; the default if none was."""
    told = next(told_windows(store), None)
    return Windows() if told is None else Windows(size_ms=told.end_ms - told.start_ms)


def meters(store: Store, *, tenant: str | None = None) -> Iterator[Meter]:
    """Every endpoint's meter, or those of one tenant's endpoints."""
    return _all(store, METER, _METERS, scope=tenant)


def meter_of(store: Store, endpoint: str) -> Meter | None:
    """The meter of one endpoint; None if nothing was ever heard of it."""
    record = store.load(METER, endpoint)
    return _METERS.validate_json(record.state) if record else None


def producers(store: Store) -> Iterator[Producer]:
    """Every router process that ever reported."""
    return _all(store, PRODUCER, _PRODUCERS)


def told_windows(store: Store) -> Iterator[Window]:
    """Every window of which something was told."""
    return (each for each in _all(store, WINDOW, _WINDOWS) if each.revision)


def _all(store: Store, kind: str, codec: TypeAdapter[S], *, scope: str | None = None) -> Iterator[S]:
    page = store.page(kind, scope=scope, limit=RECORDS_MAX)
    while page:
        yield from (codec.validate_json(each.state) for each in page)
        page = store.page(kind, scope=scope, after=page[-1].key, limit=RECORDS_MAX)
