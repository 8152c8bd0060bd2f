"""The work of one export: read what was told, commit what will be sent, send it, commit what the receiver said.

A crash between any two of these repeats the step behind it: the same telling is known again, the same intent is sent
again under its id. After trouble one intent goes alone, and batches grow again as answers come.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from libs.common.clock import Clock
from libs.common.errors import Invalid
from libs.common.events.envelope import Envelope
from libs.common.events.event import Internal
from libs.common.ids import EventId, SystemEntropy, event_id
from libs.common.runner import Owned, Runner
from libs.common.service import retry_delay_s
from libs.common.store.port import Attention, Store
from libs.common.telemetry.logging import fields
from libs.common.units import SECOND_MS
from services.metering.core.exports.decide import (
    Begun,
    Ended,
    Heard,
    Redriven,
    Resolved,
    Rewound,
    decide_export,
    decide_feed,
)
from services.metering.core.exports.receiver import Receiver
from services.metering.core.exports.state import Export, Feed, Intent, Outcome, attention_of, scope_of
from services.metering.shell import metrics
from services.metering.shell.exporters.reply import End, Result, Sender
from services.metering.shell.feeding import PAGE, Telling, told_after

log = logging.getLogger(__name__)

FEED: Final = "export-feed"
PARKED: Final = "parked"
GROWTH: Final = 4  # Of the batch after each that got through.
KEYS: Final = 200  # Read at once.
END: Final = 1 << 60  # Behind every position and every time.
READ_AGAIN_MS: Final = 30 * SECOND_MS  # A telling may be committed after one with a higher position.

OUTCOMES: Final = {End.ACCEPTED: Outcome.ACCEPTED, End.REFUSED: Outcome.REFUSED, End.UNSENT: Outcome.UNSENT}


@dataclass(frozen=True, slots=True)
class Status:
    """How an export stands. `lag_s`: the age of the oldest window that waits to be sent."""

    name: str
    waiting: int
    parked: int
    lag_s: int
    is_reading: bool


@dataclass(frozen=True, slots=True)
class _Due:
    key: str
    intent: Intent
    begun: int


class Exporting:
    """One export over metering's store."""

    def __init__(self, receiver: Receiver, sender: Sender, *, store: Store, clock: Clock) -> None:
        self.receiver = receiver
        self.kind = f"export:{receiver.name}"
        self._sender = sender
        self._store = store
        self._clock = clock
        decide = partial(decide_export, receiver=receiver)
        owned = Owned(self.kind, Export, Export, decide, hears={}, scope=scope_of, attention=attention_of)
        self._exports = Runner(owned, store=store, clock=clock)
        self._feeds = Runner(Owned(FEED, Feed, Feed, decide_feed, hears={}), store=store, clock=clock)
        self._process = SystemEntropy().token_bytes(8).hex()
        self._position = 0  # How far the journal was read; what has nothing for us is not worth a commit.
        self._rewinds = 0
        self._told = -1
        self._read_ms = 0
        self._batch = 1  # The first is a probe.
        self._failures = 0
        self._not_before_ms = 0
        self._after = ""

    def run(self) -> int:
        """One pass: a page of what was told, and a batch of what waits; returns how much was done."""
        return self.hear() + self.send()

    def hear(self) -> int:
        """Take in a page of what was told; 0 if there was nothing."""
        feed, now_ms = self.feed(), self._clock.now_ms()
        if feed.rewinds != self._rewinds or feed.position > self._position:
            self._position, self._rewinds, self._told = feed.position, feed.rewinds, -1
        told = self._store.told(after=END, limit=1).last
        if told == self._told and now_ms - self._read_ms < READ_AGAIN_MS:
            return 0  # Reading the journal makes writers wait; so it is read when something was told, or to be sure.
        news = told_after(self._store, self._position)
        self._want(news.tellings, self.since_ms)
        self._position = news.position
        if news.is_all:
            self._told, self._read_ms = told, now_ms
        if news.tellings or news.position - feed.position >= PAGE:
            self._learn(Heard(position=news.position, rewinds=feed.rewinds))
        return len(news.tellings) or int(not news.is_all)

    def send(self) -> int:
        """Send a batch of what waits; returns how many records were worked on, 0 while the receiver is given time."""
        if self._clock.now_ms() < self._not_before_ms:
            return 0
        keys = self._store.attended(self.kind, Attention.NOW, after=self._after, limit=self._batch)
        due = [each for key in keys if (each := self._begin(key)) is not None]
        # Goes round: one that never gets through must not stand before the others.
        wrapped = bool(self._after)
        self._after = keys[-1] if len(keys) == self._batch else ""
        if due:
            self._end(due, self._sender.send([each.intent for each in due]))
        return len(keys) or int(wrapped)

    def feed(self) -> Feed:
        """How far the feed was read."""
        return self._feeds.state(self.receiver.name) or Feed(self.receiver.name)

    @property
    def since_ms(self) -> int:
        """From when on windows are exported."""
        since_ms = self.feed().since_ms
        return self.receiver.since_ms if since_ms is None else since_ms

    def records(self) -> Iterator[Export]:
        """What the receiver holds of each window, as far as it is known."""
        return self._exports.every()

    def backfill(self, since_ms: int) -> None:
        """Read all windows from a time on again, and from now on export what began after it."""
        self._learn(Rewound(since_ms=since_ms))

    def parked(self) -> Iterator[Export]:
        """What waits for people."""
        return self._exports.every(scope=PARKED)

    def redrive(self) -> int:
        """Try again what is parked, but for what may be there already; returns how many."""
        parked = [each for each in self.parked() if each.intent is None]
        for each in parked:
            self._take(each.key, Redriven())
        return len(parked)

    def resolve(self, key: str, *, is_there: bool) -> Export:
        """Say whether what was in doubt is at the receiver. Raises Invalid if nothing of the window is in doubt."""
        export = self._exports.state(key)
        if export is None or export.intent is None or export.parked is None:
            raise Invalid(f"nothing of {key} is in doubt at {self.receiver.name}")
        return self._take(key, Resolved(is_there=is_there))

    def would_send(self, since_ms: int) -> Iterator[tuple[str, object]]:
        """Windows with what would be sent of each, or why nothing can be; writes nothing."""
        position, is_all = 0, False
        while not is_all:
            news = told_after(self._store, position)
            position, is_all = news.position, news.is_all
            for each in news.tellings:
                if self._is_ours(each, since_ms):
                    for part in self._divided(each):
                        yield from self._would_send(part)

    def status(self) -> Status:
        """How it stands; also shown as metrics."""
        name, oldest = self.receiver.name, self._store.due((self.kind,), END, 1)
        lag_s = max(0, self._clock.now_ms() - oldest[0].at_ms) // SECOND_MS if oldest else 0
        parked = sum(1 for _ in self.parked())
        metrics.EXPORT_LAG.labels(export=name).set(lag_s)
        metrics.EXPORT_PARKED.labels(export=name).set(parked)
        is_reading = bool(told_after(self._store, self._position or self.feed().position).tellings)
        return Status(name, sum(1 for _ in self._waiting()), parked, lag_s, is_reading)

    def _want(self, tellings: Sequence[Telling], since_ms: int) -> None:
        ours = (part for each in tellings if self._is_ours(each, since_ms) for part in self._divided(each))
        for each in ours:
            known = self._exports.state(each.key)
            is_news = bool(each.wanted.quantity) if known is None else known.revision < each.wanted.revision
            if is_news:
                cause = event_id(f"{each.key}|{each.wanted.revision}", self.kind, 0)
                self._exports.take(each.key, self._envelope(cause, each.wanted, each.key))

    def _divided(self, telling: Telling) -> Iterable[Telling]:
        return telling.divided() if self.receiver.limits.takes_parts else (telling,)

    def _is_ours(self, telling: Telling, since_ms: int) -> bool:
        sold = telling.wanted.sold
        return sold.start_ms >= since_ms and self.receiver.code_of(sold) is not None

    def _would_send(self, telling: Telling) -> Iterator[tuple[str, object]]:
        export = self._exports.state(telling.key) or Export(telling.key)
        for event in (telling.wanted, Begun()):
            envelope = self._envelope(event_id(telling.key, "dry", 0), event, telling.key)
            export = decide_export(export, envelope, self._clock.now_ms(), receiver=self.receiver).state
        if export.parked is not None:
            yield telling.key, {"parked": str(export.parked), "why": export.parked_detail}
        elif export.intent is not None:
            yield telling.key, self._sender.shown(export.intent)

    def _begin(self, key: str) -> _Due | None:
        record = self._store.load(self.kind, key)
        assert record is not None, key
        # Committed before each sending, by each process for itself: whoever sends again must be seen to have done so.
        cause = event_id(f"{self.kind}|{key}|{record.version}|{self._process}", Begun.kind, 0)
        export = self._exports.take(key, self._envelope(cause, Begun(), key))
        if export.parked is not None:
            log.warning("export parked", extra=fields(reason=export.parked_detail, code=export.parked, action=key))
            return None
        return None if export.intent is None else _Due(key, export.intent, export.begun)

    def _end(self, due: Sequence[_Due], results: Sequence[Result]) -> None:
        of = {each.intent.id: each for each in due}
        for each in results:
            metrics.EXPORTED.labels(export=self.receiver.name, end=each.end.value).inc()
            outcome, sent = OUTCOMES.get(each.end), of.pop(each.intent.id)
            if outcome is not None:
                cause = event_id(f"{self.kind}|{sent.key}|{sent.begun}", outcome, 0)
                ended = Ended(intent_id=each.intent.id, outcome=outcome, detail=each.detail)
                self._exports.take(sent.key, self._envelope(cause, ended, sent.key))
            if each.end is End.REFUSED:
                log.warning("export refused", extra=fields(reason=each.detail, action=sent.key))
        assert not of, f"{self.receiver.name} said nothing of {len(of)} intents"
        trouble = [each for each in results if each.end in (End.UNSENT, End.UNSURE)]
        if not trouble:
            self._failures, self._batch = 0, min(self._batch * GROWTH, self.receiver.limits.batch_max)
            return
        self._failures, self._batch = self._failures + 1, 1
        wait_s = max(retry_delay_s(self.receiver.name, self._failures), *(each.retry_after_s for each in trouble))
        self._not_before_ms = self._clock.now_ms() + round(wait_s * SECOND_MS)
        reason = f"{self.receiver.name}: {trouble[0].detail}"
        log.warning("export put off", extra=fields(reason=reason, attempt=self._failures, delay_s=round(wait_s, 1)))

    def _waiting(self) -> Iterator[str]:
        keys = self._store.attended(self.kind, Attention.NOW, limit=KEYS)
        while keys:
            yield from keys
            keys = self._store.attended(self.kind, Attention.NOW, after=keys[-1], limit=KEYS)

    def _take(self, key: str, event: Internal) -> Export:
        """Take an event that belongs to the record as it is: at another version it is another event."""
        known = self._store.load(self.kind, key)
        version = known.version if known else 0
        cause = event_id(f"{self.kind}|{key}|{version}", event.kind, 0)
        return self._exports.take(key, self._envelope(cause, event, key))

    def _learn(self, event: Internal) -> None:
        key = self.receiver.name
        record = self._store.load(FEED, key)
        version = record.version if record else 0
        cause = event_id(f"{FEED}|{key}|{version}", event.model_dump_json(), 0)
        self._feeds.take(key, self._envelope(cause, event, key))

    def _envelope(self, cause: EventId, event: Internal, key: str) -> Envelope:
        return Envelope(cause, event, subject=key, time_ms=self._clock.now_ms())
