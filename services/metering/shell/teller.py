"""The ledger as a world: reads what closed windows add up to, and has their records tell it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from libs.common.clock import Clock
from libs.common.events.envelope import Envelope
from libs.common.events.usage import Meter as MeterName
from libs.common.ids import event_id
from libs.common.runner import Runner
from libs.common.store.port import Store
from services.metering.core.accounts import accounts_of
from services.metering.core.decide import LedgerRead, Totalled
from services.metering.core.state import Mark, Meter, Window, window_key
from services.metering.core.windows import Windows

MARKS_MAX: Final = 32  # Windows compared in one pass of one endpoint; about ten small reads each.


class Teller:
    """Compares due windows with the ledger, and tells those that differ."""

    def __init__(self, runner: Runner[Window], *, store: Store, clock: Clock, windows: Windows) -> None:
        self._runner = runner
        self._store = store
        self._clock = clock
        self._windows = windows

    def observe(self, state: Meter) -> LedgerRead:
        """Which of the oldest due windows agree with what was told of them, and what the others add up to."""
        agreed: list[tuple[str, int, int]] = []
        untold: list[Totalled] = []
        for mark in state.due[:MARKS_MAX]:
            differing = tuple(self._differing(mark))
            untold += differing
            if not differing:
                agreed.append((mark.dimensions.root, mark.start_ms, mark.number))
        return LedgerRead(agreed=tuple(agreed), untold=tuple(untold))

    def apply(self, action: Totalled) -> None:
        """Tell one window. The id is that of the window's revision, so again is nothing new."""
        cause = event_id(action.key, "window", action.revision)
        self._runner.take(action.key, Envelope(cause, action, subject=action.key, time_ms=self._clock.now_ms()))

    def _differing(self, mark: Mark) -> Iterator[Totalled]:
        root, start_ms = mark.dimensions.root, mark.start_ms
        # Windows first, ledger second: a total is never older than the revision that it is compared with.
        told = {
            (account, meter): self._runner.state(window_key(root=root, account=name, meter=meter, start_ms=start_ms))
            for account, name in accounts_of(root)
            for meter in MeterName
        }
        for account, name in accounts_of(root):
            for each in self._store.totals(from_ms=start_ms, to_ms=start_ms + self._windows.size_ms, account=account):
                window = told[(account, MeterName(each.meter))] or Window("")
                if each.quantity != window.quantity:
                    yield self._totalled(mark, name, MeterName(each.meter), each.quantity, window.revision + 1)

    def _totalled(self, mark: Mark, account: str, meter: MeterName, quantity: int, revision: int) -> Totalled:
        sold = mark.dimensions
        return Totalled(
            key=window_key(root=sold.root, account=account, meter=meter, start_ms=mark.start_ms),
            root=sold.root,
            tenant_id=sold.tenant_id,
            project_id=sold.project_id,
            endpoint_id=sold.endpoint_id,
            generation=sold.generation,
            model=sold.model,
            tier=sold.tier,
            region=sold.region,
            meter=meter,
            account=account,
            start_ms=mark.start_ms,
            end_ms=mark.start_ms + self._windows.size_ms,
            quantity=quantity,
            revision=revision,
        )
