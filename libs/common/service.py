"""A service as the outside sees it: the same face for a process, for the simulation and for a test.

`deliver` answers the bus, `tick` is the clock, `reconcile` is the world, `relay` is the way out. All are synchronous,
and a process calls them from worker threads, so the event loop never waits for a database.
"""

from __future__ import annotations

import logging
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from libs.common.bus.port import Ack, Answer, Dead, Delivery, Retry
from libs.common.errors import Rejected, Unavailable
from libs.common.events.envelope import Envelope, from_wire
from libs.common.events.event import Event, Owner
from libs.common.reconciler import Reconciler
from libs.common.relay import Publish, Relay
from libs.common.runner import Runner, take_all
from libs.common.store.port import Store
from libs.common.telemetry import metrics
from libs.common.telemetry.logging import fields
from libs.common.waking import Ticked, tick_all

log = logging.getLogger(__name__)

ATTEMPTS_MAX: Final = 12  # About an hour of retries with the delays below; then people must look.
RETRY_FIRST_S: Final = 0.5
RETRY_MAX_S: Final = 300.0


@dataclass(frozen=True, slots=True)
class Service:
    """Runners for what it owns, reconcilers for the world it keeps, and one store under them.

    `together`: events that all records they concern take in one commit; others are a commit a record.
    `read` makes an event of what came from the bus; it raises Rejected for what is none.
    """

    name: Owner
    store: Store
    runners: tuple[Runner[Any], ...]
    reconcilers: tuple[Reconciler[Any, Any, Any], ...] = ()
    together: frozenset[type[Event]] = frozenset()
    read: Callable[[Mapping[str, str], bytes], Envelope] = from_wire

    def runner(self, kind: str) -> Runner[Any]:
        """The runner of a kind of thing that we own."""
        return next(each for each in self.runners if each.owned.kind == kind)

    def deliver(self, delivery: Delivery) -> Answer:
        """Handle a message of the bus and say what becomes of it. Never raises: this loop owns the message."""
        kind = delivery.message.headers.get("ce-type", "?")
        answer = self._answer(delivery)
        metrics.EVENTS_HANDLED.labels(service=self.name, type=kind, answer=type(answer).__name__.lower()).inc()
        return answer

    def _answer(self, delivery: Delivery) -> Answer:
        message = delivery.message
        try:
            self.handle(self.read(message.headers, message.body))
            return Ack()
        except Rejected as refusal:
            log.warning("message parked", extra=fields(event_id=message.id, reason=str(refusal)))
            return Dead(f"{refusal.code}: {refusal}")
        except Unavailable as later:
            return Retry(max(later.retry_after_s, retry_delay_s(message.id, delivery.attempt)), str(later))
        except Exception as bug:
            log.exception("message failed", extra=fields(event_id=message.id, attempt=delivery.attempt))
            if delivery.attempt >= ATTEMPTS_MAX:
                return Dead(f"bug: {type(bug).__name__} after {delivery.attempt} attempts")
            return Retry(retry_delay_s(message.id, delivery.attempt), type(bug).__name__)

    def handle(self, envelope: Envelope) -> None:
        """Apply an event to every record of ours that it concerns. Safe to repeat."""
        concerned = [(each, parts) for each in self.runners if (parts := each.parts_of(envelope)) is not None]
        if not concerned:
            raise Rejected(f"{self.name} does not hear {envelope.type}", code="not_heard")
        taken = [(runner, key, part) for runner, parts in concerned for key, part in parts]
        if type(envelope.data) in self.together and taken:
            take_all(taken)
            return
        for runner, key, part in taken:
            runner.take(key, part)

    def tick(self, *, ahead_ms: int = 0) -> Ticked:
        """Wake what is due, and look so far ahead for what will be next."""
        return tick_all(self.runners, ahead_ms=ahead_ms)

    def reconcile(self) -> int:
        """One pass of every reconciler; returns how many actions were applied."""
        return sum(each.run() for each in self.reconcilers)

    @property
    def is_at_rest(self) -> bool:
        """Whether the last pass of each reconciler found nothing in motion."""
        return all(each.is_at_rest for each in self.reconcilers)

    def relay(self, publish: Publish) -> Relay:
        """The relay of our outbox."""
        return Relay(self.store, publish)


def retry_delay_s(message_id: str, attempt: int) -> float:
    """Doubling from half a second to five minutes, spread by a jitter computed from the message."""
    spread = 0.5 + (zlib.crc32(f"{message_id}|{attempt}".encode()) % 1000) / 1000
    return min(RETRY_MAX_S, RETRY_FIRST_S * 2.0 ** min(attempt - 1, 10)) * spread
