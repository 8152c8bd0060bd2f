"""The bill, proved from both ends: lines against sums, sums against what was told, GPU lines against held time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum

from libs.common.events.usage import Meter as MeterName
from libs.common.store.port import Entry
from services.metering.core.accounts import accounts_of, held_account, is_aside, is_unbilled, nobodys_root, parts_of
from services.metering.core.booking import NO_SALE
from services.metering.core.labels import labels_of
from services.metering.core.state import Meter, Window, window_key
from services.metering.core.windows import Windows


class Check(StrEnum):
    """What was compared with what."""

    TOTAL = "total_of_lines"
    WINDOW = "window_told"
    HELD = "held_time"


@dataclass(frozen=True, slots=True)
class Difference:
    """Two figures that should be one."""

    check: Check
    what: str
    ledger: int
    other: int

    def __str__(self) -> str:
        """One line for an operator."""
        return f"{self.check}: {self.what} is {self.ledger} in the ledger but {self.other} there"


Sums = Mapping[tuple[str, str], int]


class Ledger:
    """Sums of entries as they are read, so that a whole ledger is audited in the memory of its windows."""

    def __init__(self, windows: Windows) -> None:
        self.windows = windows
        self.by_account: dict[tuple[str, str], int] = {}
        # By account, meter, model, and (adapter, class of nodes).
        self.by_window: dict[tuple[str, str, str, tuple[str, str]], dict[int, int]] = {}

    def add(self, entries: Iterable[Entry]) -> None:
        """Count entries in."""
        for each in entries:
            account = (each.account, each.meter)
            self.by_account[account] = self.by_account.get(account, 0) + each.quantity
            if not is_aside(each.account):
                said = labels_of(each.labels)
                kind = (*account, said.model, (said.adapter, said.node_class))
                start_ms, sums = self.windows.start_of(each.at_ms), self.by_window.setdefault(kind, {})
                sums[start_ms] = sums.get(start_ms, 0) + each.quantity

    def by_key(self) -> dict[str, dict[tuple[str, str], int]]:
        """What each window adds up to by adapter and class of nodes, by the window's key."""
        found: dict[str, dict[tuple[str, str], int]] = {}
        for (account, meter, model, part), sums in self.by_window.items():
            if is_unbilled(account):
                continue
            root, name = parts_of(account)
            for start_ms, quantity in sums.items():
                key = window_key(root=root, account=name, meter=meter, start_ms=start_ms, model=model)
                found.setdefault(key, {})[part] = quantity
        return found


def totals_differ(ledger: Ledger, totals: Sums) -> tuple[Difference, ...]:
    """Where the store's sums are not the sums of its lines."""
    return tuple(
        Difference(Check.TOTAL, f"{account} {meter}", ledger.by_account.get((account, meter), 0), quantity)
        for (account, meter), quantity in _union(ledger.by_account, totals)
        if ledger.by_account.get((account, meter), 0) != quantity
    )


def windows_differ(ledger: Ledger, told: Mapping[str, Window]) -> tuple[Difference, ...]:
    """Where what was told of a window is not what the ledger holds for it."""
    sums = ledger.by_key()
    return tuple(
        difference
        for key in sorted({*sums, *told})
        for difference in _window_differs(key, sums.get(key, {}), told.get(key) or Window(key))
    )


def _window_differs(key: str, parts: Mapping[tuple[str, str], int], told: Window) -> Iterator[Difference]:
    total = sum(parts.values())
    if total != told.quantity:
        yield Difference(Check.WINDOW, key, total, told.quantity)
    if told.parts is None:
        return  # By a build that told none.
    said = {(each.adapter, each.node_class): each.quantity for each in told.parts} or {("", ""): told.quantity}
    for place in sorted({*parts, *said}):
        if parts.get(place, 0) != said.get(place, 0) and place != ("", ""):
            yield Difference(
                Check.WINDOW, f"{key} of {' '.join(filter(None, place))}", parts.get(place, 0), said.get(place, 0)
            )


def held_differs(ledger: Ledger, meter: Meter) -> tuple[Difference, ...]:
    """Where an endpoint's GPU lines are not the time that its meter says it booked, as far back as it remembers."""
    nobodys = meter.pool.root if meter.pool else nobodys_root(meter.endpoint_id)
    root = nobodys if meter.dimensions is None else meter.dimensions.root
    from_ms = ledger.windows.start_of(meter.settled_ms + ledger.windows.size_ms - 1)
    accounts = [account for each in sorted({root, nobodys}) for account, name in accounts_of(each) if name]
    lines = dict.fromkeys(accounts, 0)
    for (account, meter_name, *_), sums in ledger.by_window.items():
        if account in lines and meter_name == MeterName.GPU_MS:
            lines[account] += sum(each for start_ms, each in sums.items() if start_ms >= from_ms)
    booked = dict.fromkeys(accounts, 0)
    for node in meter.nodes:
        for span in node.booked:
            held_ms = max(0, span.to_ms - max(span.from_ms, from_ms))
            account = held_account(nobodys if span.generation == NO_SALE else root, span.account)
            booked[account] += span.gpu_count * held_ms
    return tuple(
        Difference(Check.HELD, account, lines[account], booked[account])
        for account in accounts
        if lines[account] != booked[account]
    )


def _union(lines: Sums, totals: Sums) -> list[tuple[tuple[str, str], int]]:
    return [(each, totals.get(each, 0)) for each in sorted({*lines, *totals})]
