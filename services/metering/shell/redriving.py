"""Driving parked input again after its reason was removed: through the same door as the first time.

First it is entered as a batch of its own, then the parked line is taken back. A crash between, and the same again: the
batch is known, and the line is taken back then.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from pydantic import ValidationError

from libs.common.clock import Clock
from libs.common.events.envelope import Envelope
from libs.common.events.route import RequestUsage, UsageReported
from libs.common.ids import event_id
from libs.common.runner import Owned, Runner
from libs.common.service import Service
from libs.common.store.port import Entry, Store
from services.metering.core.accounts import Flaw, parked_account
from services.metering.core.intake import content_of, flaw_now
from services.metering.core.parked import Parked, Redriven, decide
from services.metering.shell.ledger import page
from services.metering.shell.screening import Owners

KIND: Final = "parked"
REDRIVE: Final = "redrive"  # The instance in whose name it is reported; no router may be called so.


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one parked line: `still` says why it stays, empty if it is in the ledger now."""

    parked: str
    still: str


class Redriving:
    """Parked input of a store, and the service to drive it through."""

    def __init__(self, service: Service, store: Store, clock: Clock) -> None:
        self._service = service
        self._store = store
        self._clock = clock
        self._owners = Owners(store)
        self._parked = Runner(Owned(KIND, Parked, Parked, decide, hears={}), store=store, clock=clock)

    def parked(self, flaw: Flaw | None = None) -> Iterator[Entry]:
        """What waits for people, oldest first within each flaw."""
        for each in Flaw if flaw is None else (flaw,):
            next_ms: int | None = 0
            while next_ms is not None:
                part = page(self._store, [parked_account(each)], from_ms=next_ms)
                next_ms = part.next_ms
                yield from (entry for entry in part.entries if self._waits(entry))

    def redrive(self, *, by: str, flaw: Flaw | None = None) -> list[Outcome]:
        """Drive all of it again, or what has one flaw; what is still flawed changes nothing and stays."""
        return [self._drive(each, by) for each in list(self.parked(flaw))]

    def _waits(self, entry: Entry) -> bool:
        return not entry.id.startswith("back/") and self._parked.state(entry.id) is None

    def _drive(self, entry: Entry, by: str) -> Outcome:
        try:
            usage = RequestUsage.model_validate_json(entry.data)
        except ValidationError:
            return Outcome(entry.id, Flaw.MALFORMED)
        now_ms = self._clock.now_ms()
        still = flaw_now(usage, now_ms=now_ms, is_foreign=bool(self._owners.foreign([usage])))
        if still is not None:
            return Outcome(entry.id, still)
        batch = UsageReported(instance=REDRIVE, boot_id=entry.id, boot_seq=1, requests=(usage,))
        self._service.handle(Envelope(event_id(entry.id, REDRIVE, 0), batch, subject=REDRIVE, time_ms=now_ms))
        if [each.data for each in self._store.entries_of([f"request/{usage.request_id}/requests"])] != [
            content_of(usage)
        ]:
            return Outcome(entry.id, Flaw.CONFLICT)
        back = Redriven(by=by, account=entry.account, at_ms=entry.at_ms)
        self._parked.take(entry.id, Envelope(event_id(entry.id, KIND, 0), back, subject=entry.id, time_ms=now_ms))
        return Outcome(entry.id, "")
