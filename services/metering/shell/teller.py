"""The ledger as a world: reads what closed windows add up to, and has their records tell it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from libs.common.clock import Clock
from libs.common.errors import Rejected
from libs.common.events.envelope import Envelope
from libs.common.events.usage import Meter as MeterName
from libs.common.ids import event_id
from libs.common.runner import Runner
from libs.common.store.port import Store, Sum
from services.metering.core.accounts import accounts_of, parts_of
from services.metering.core.decide import LedgerRead
from services.metering.core.labels import labels_of
from services.metering.core.parts import joined, part_of
from services.metering.core.plan import Tell
from services.metering.core.state import Mark, Meter, Window, window_key
from services.metering.core.telling import Totalled
from services.metering.core.windows import Windows

MARKS_MAX: Final = 32  # Windows compared in one pass of one endpoint, and told in one commit.


class Teller:
    """Compares due windows with the ledger, and tells those that differ."""

    def __init__(self, runner: Runner[Window], *, store: Store, clock: Clock, windows: Windows) -> None:
        self._runner = runner
        self._store = store
        self._clock = clock
        self._windows = windows

    def observe(self, state: Meter) -> LedgerRead:
        """Which of the oldest due windows agree with what was told of them, and what the others add up to."""
        marks = state.due[:MARKS_MAX]
        totals = self._totals(marks)
        told = self._runner.states_of([key for _, key in totals])
        untold = _differing(totals, told)
        if any(each.revision > 1 for each in untold):
            # A total must not be older than the revision that it is compared with: somebody else may have told it.
            untold = _differing(self._totals(marks), told)
        differing = {(each.root, each.start_ms) for each in untold}
        agreed = ((each.dimensions.root, each.start_ms, each.number) for each in marks)
        return LedgerRead(agreed=tuple(each for each in agreed if each[:2] not in differing), untold=untold)

    def apply(self, action: Tell) -> None:
        """Tell windows, in one commit. The id is that of a window's revision, so again is nothing new."""
        asked = [(each.key, self._telling(each)) for each in sorted(action.windows, key=lambda each: each.key)]
        try:
            self._runner.take_together(asked)
        except Rejected:  # One that can't be told keeps none before it from being told.
            for each in action.windows:
                self._runner.take(each.key, self._telling(each))

    def _telling(self, total: Totalled) -> Envelope:
        cause = event_id(total.key, "window", total.revision)
        return Envelope(cause, total, subject=total.key, time_ms=self._clock.now_ms())

    def _totals(self, marks: Sequence[Mark]) -> Mapping[tuple[int, str], Totalled]:
        """What the windows add up to, by the window's start and key."""
        found: dict[tuple[int, str], Totalled] = {}
        for root in sorted({each.dimensions.root for each in marks}):
            accounts = [account for account, _ in accounts_of(root)]
            by_start = {each.start_ms: each for each in marks if each.dimensions.root == root}
            for from_ms, to_ms in self._windows.runs(sorted(by_start)):
                sums = self._store.sums(from_ms=from_ms, to_ms=to_ms, accounts=accounts, every_ms=self._windows.size_ms)
                for each in sums:
                    new = self._totalled(by_start[each.start_ms], each)
                    known = found.get((new.start_ms, new.key))
                    found[new.start_ms, new.key] = new if known is None else _added(known, new)
        return {place: found[place] for place in sorted(found)}

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


def _differing(totals: Mapping[tuple[int, str], Totalled], told: Mapping[str, Window]) -> tuple[Totalled, ...]:
    found = ((each, told.get(each.key) or Window("")) for each in totals.values())
    return tuple(
        each.model_copy(update={"revision": window.revision + 1}) for each, window in found if each.differs_from(window)
    )


def _added(known: Totalled, new: Totalled) -> Totalled:
    newest = max(known, new, key=lambda each: each.generation)
    parts = joined((*(known.parts or ()), *(new.parts or ())))
    return newest.model_copy(update={"quantity": known.quantity + new.quantity, "parts": parts})
