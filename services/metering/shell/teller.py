"""The ledger as a world: reads what closed windows add up to, and has their records tell it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from libs.common.clock import Clock
from libs.common.events.envelope import Envelope
from libs.common.events.usage import Meter as MeterName
from libs.common.ids import event_id
from libs.common.runner import Runner
from libs.common.store.port import Store, Sum
from services.metering.core.accounts import parts_of
from services.metering.core.decide import LedgerRead
from services.metering.core.labels import labels_of
from services.metering.core.parts import joined, part_of
from services.metering.core.state import Mark, Meter, Window, window_key
from services.metering.core.telling import Totalled
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
        # Windows first, ledger second: a total is never older than the revision that it is compared with. The ledger
        # is read before that only for which windows there are.
        told = {each.key: self._runner.state(each.key) for each in self._totals(mark)}
        for each in self._totals(mark):
            window = told.get(each.key) or Window("")
            if each.differs_from(window):
                yield each.model_copy(update={"revision": window.revision + 1})

    def _totals(self, mark: Mark) -> list[Totalled]:
        root, start_ms = mark.dimensions.root, mark.start_ms
        sums: dict[str, Totalled] = {}
        for each in self._store.sums(from_ms=start_ms, to_ms=start_ms + self._windows.size_ms, under=root):
            new = self._totalled(mark, each)
            known = sums.get(new.key, new)
            newest = max(known, new, key=lambda each: each.generation)
            if new.key in sums:
                parts = joined((*(known.parts or ()), *(new.parts or ())))
                newest = newest.model_copy(update={"quantity": known.quantity + new.quantity, "parts": parts})
            sums[new.key] = newest
        return [sums[key] for key in sorted(sums)]

    def _totalled(self, mark: Mark, found: Sum) -> Totalled:
        sold, labels = mark.dimensions, labels_of(found.labels)
        root, account = parts_of(found.account)
        key = window_key(root=root, account=account, meter=found.meter, start_ms=mark.start_ms, model=labels.model)
        return Totalled(
            key=key,
            root=root,
            tenant_id=sold.tenant_id,
            project_id=sold.project_id,
            endpoint_id=sold.endpoint_id,
            generation=labels.generation or sold.generation,
            model=labels.model or sold.model,
            tier=labels.tier or sold.tier,
            region=labels.region or sold.region,
            meter=MeterName(found.meter),
            account=account,
            start_ms=mark.start_ms,
            end_ms=mark.start_ms + self._windows.size_ms,
            quantity=found.quantity,
            revision=0,
            tenancy=labels.tenancy or sold.tenancy,
            parts=(part_of(found.labels, found.quantity),),
        )
