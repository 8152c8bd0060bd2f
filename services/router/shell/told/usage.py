"""Usage on its way to the ledger: batches of finished requests, sent until the ledger says that it has them.

A batch is published directly, not through the outbox: the journal is its outbox, and only the ledger's confirmation
empties it, so that a bus which lost everything it had acknowledged costs nothing but a repetition.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from libs.common.bus.port import Message
from libs.common.bus.streams import message_of
from libs.common.clock import Clock
from libs.common.errors import Unavailable
from libs.common.events.envelope import Envelope
from libs.common.events.route import UsageReported
from libs.common.ids import event_id
from libs.common.relay import Publish
from libs.common.telemetry.logging import fields
from libs.common.units import KIB, SECOND_MS
from services.router.shell import metrics
from services.router.shell.ports import UsageJournal

log = logging.getLogger(__name__)

BATCH_MAX: Final = 500  # What the ledger enters in one commit: large batches are what lets it keep up.
BATCH_MAX_BYTES: Final = 240 * KIB  # With its headers within the stream's limit of 256 KiB a message.
RESEND_MS: Final = 30 * SECOND_MS
POLL_S: Final = 1.0  # How late a row that became due for another sending is noticed.
NO_ROWS: Final = b"[]}"  # How a report without rows ends.
RETRY_S: Final = 0.5  # After a bus that did not take a batch.

PublishLater = Callable[[Sequence[Message]], Awaitable[int]]


@dataclass(frozen=True, slots=True)
class _Batch:
    message: Message
    request_ids: tuple[str, ...]


class UsageSender:
    """Makes batches and remembers what became of them. `boot_seq` counts what the bus took, without gaps.

    Synchronous: ``run(publish)`` sends one batch, or ``next_batch()`` and, once the bus has it, ``stored()``.
    """

    def __init__(
        self, journal: UsageJournal, clock: Clock, *, instance: str, boot_id: str, resend_ms: int = RESEND_MS
    ) -> None:
        self._journal = journal
        self._clock = clock
        self._instance = instance
        self._boot_id = boot_id
        self._resend_ms = resend_ms
        self._boot_seq = 1
        self._pending: _Batch | None = None
        self.has_more = False  # Whether the last batch left rows behind that were due with it.

    def has_none(self) -> bool:
        """Whether there is nothing that could be sent, now or again; says so at once."""
        backlog = self._journal.backlog()
        metrics.BACKLOG.set(backlog)
        return not backlog and self._pending is None

    def next_batch(self) -> Message | None:
        """The batch to publish: the same one, with the same id, until `stored` is called. None if nothing waits."""
        if self._pending is None:
            self._pending = self._make()
        return self._pending.message if self._pending else None

    def stored(self) -> None:
        """The bus has the batch; its rows wait for the ledger, and are sent in another batch if it stays silent."""
        assert self._pending is not None
        self._journal.mark_sent(self._pending.request_ids, now_ms=self._clock.now_ms())
        self._pending = None
        self._boot_seq += 1
        metrics.BATCHES.inc()

    def run(self, publish: Publish) -> int:
        """Send one batch if any waits; returns how many requests the bus took."""
        message = self.next_batch()
        if message is None or not publish([message]):
            return 0
        assert self._pending is not None
        count = len(self._pending.request_ids)
        self.stored()
        return count

    def _make(self) -> _Batch | None:
        now_ms = self._clock.now_ms()
        rows = self._journal.unconfirmed(sent_before_ms=now_ms - self._resend_ms, limit=BATCH_MAX)
        metrics.BACKLOG.set(self._journal.backlog())
        if not rows:
            return None
        batch, self.has_more = self._batch(rows, now_ms), len(rows) == BATCH_MAX
        while len(batch.message.body) > BATCH_MAX_BYTES and len(rows) > 1:
            # Names as long as they may be; the rest goes with the next one.
            rows = dict(itertools.islice(rows.items(), len(rows) // 2))
            batch, self.has_more = self._batch(rows, now_ms), True
        return batch

    def _batch(self, rows: Mapping[str, bytes], now_ms: int) -> _Batch:
        """The rows go into the report as the journal has them: to read and write each anew would cost 10 us."""
        report = UsageReported(instance=self._instance, boot_id=self._boot_id, boot_seq=self._boot_seq, requests=())
        envelope = Envelope(
            id=event_id(f"{self._instance}|{self._boot_id}|{self._boot_seq}", "router|usage", 0),
            data=report,
            subject=self._instance,
            time_ms=now_ms,
            sequence=self._boot_seq,
        )
        message = message_of(envelope)
        assert message.body.endswith(NO_ROWS), "the rows are the last field of a report"
        body = b"%s[%s]}" % (message.body.removesuffix(NO_ROWS), b",".join(rows.values()))
        return _Batch(replace(message, body=body), tuple(rows))


class UsageLoop:
    """Runs a sender beside the data plane; its failures never touch a request."""

    def __init__(self, sender: UsageSender, publish: PublishLater, *, batch_s: float) -> None:
        self._sender = sender
        self._publish = publish
        self._batch_s = batch_s
        self._news = asyncio.Event()
        self._one_at_a_time = asyncio.Lock()

    def poke(self) -> None:
        """A request finished."""
        self._news.set()

    async def run(self) -> None:
        """Send until cancelled."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(POLL_S):
                    await self._news.wait()
                await asyncio.sleep(self._batch_s)  # Company for the first one.
            self._news.clear()
            if not self._sender.has_none():
                await self.send_due()

    async def send_due(self) -> None:
        """Send what is due now; what comes meanwhile waits for company too: a batch costs what twenty requests do."""
        while await self._send_one() and self._sender.has_more:
            pass

    async def flush(self, within_s: float) -> None:
        """Send what waits, for a last time; what stays is sent after the next start."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while await self._send_one():
                    pass

    async def _send_one(self) -> bool:
        async with self._one_at_a_time:
            try:
                message = await asyncio.to_thread(self._sender.next_batch)
                if message is None:
                    return False
                if await self._publish([message]):
                    await asyncio.to_thread(self._sender.stored)
                    return True
            except Unavailable as later:
                log.warning("usage waits", extra=fields(reason=str(later)))
        await asyncio.sleep(RETRY_S)
        return False
