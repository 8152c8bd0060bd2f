"""The promises of the port, kept on JetStream."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Final
from urllib.parse import urlsplit

from faststream import AckPolicy
from faststream.nats import JStream, NatsMessage, PullSub
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.js.api import ConsumerConfig

from libs.common.bus.dead_letter import dead_letter
from libs.common.bus.nats.guard import LOST, ConsumerGuard
from libs.common.bus.nats.pull import Broker
from libs.common.bus.nats.watch import BucketWatch
from libs.common.bus.port import Ack, Answer, Dead, Delivery, Handler, Message, OnChange, OnLost, Retry
from libs.common.bus.streams import CONSUMERS, Consumer
from libs.common.errors import Unavailable
from libs.common.telemetry.logging import fields

log = logging.getLogger(__name__)

EXIT_CLOSED: Final = 71
BATCH: Final = 10  # Fetched at once; one at a time costs the broker twenty times the work (messaging.md 2.2).
PULL_S: Final = 5.0  # A pull may be lost without a word where a broker of several dies; so ask again this often.
BEATS: Final = 3  # Signs of life of a long handler within one ack_wait.
DEAD_AGAIN_S: Final = 5.0  # When even the dead letters can't be written.


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a bus waits, and for what."""

    connect_s: float = 10.0  # A broker that is being started together with us.
    reconnect_s: float = 0.5  # Between attempts, for ever: two a second are nothing, and we are back at once.
    publish_s: float = 2.0  # For one batch; the outbox keeps what was not stored.
    check_s: float = 5.0  # Between looks at our consumers.
    gone_s: float = 30.0  # For `provision` to bring a consumer back, before we exit to be restarted.
    stop_s: float = 15.0  # For handlers to finish.


class NatsBus:
    """A connection to JetStream. Handlers run in ``threads`` threads; watches are told on the event loop."""

    def __init__(
        self,
        url: str,
        *,
        name: str,
        threads: int = 4,
        consumers: Sequence[Consumer] = CONSUMERS,
        patience: Patience | None = None,
        die: Callable[[int], object] = os._exit,
    ) -> None:
        self._where = urlsplit(url).hostname or url  # Without what may be a password.
        self._name = name
        self._declared = {each.name: each for each in consumers}
        self._patience = patience or Patience()
        self._die = die
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="handler")
        self._room = asyncio.Semaphore(threads + BATCH)  # What waits for a thread is hostage to our stop: not too much.
        self._handling: set[asyncio.Task[None]] = set()
        self._mine: list[Consumer] = []
        self._watches: list[BucketWatch] = []
        self._connection: Client | None = None
        self._guard = ConsumerGuard(self._mine, check_s=self._patience.check_s, gone_s=self._patience.gone_s, die=die)
        self._is_denied = False
        self._is_stopping = False
        self._refused = ""
        self._broker = Broker(
            [url],
            name=name,
            max_reconnect_attempts=-1,  # The default gives up after two minutes (reliability.md L11).
            reconnect_time_wait=self._patience.reconnect_s,  # type: ignore[arg-type]  # Any number of seconds will do.
            ping_interval=10,  # A half-open connection is noticed within 30 s, not four minutes.
            graceful_timeout=self._patience.stop_s,
            error_cb=self._on_error,
            disconnected_cb=self._on_disconnected,
            reconnected_cb=self._on_reconnected,
            closed_cb=self._on_closed,
            ack_policy=AckPolicy.MANUAL,
            apply_types=False,
            logger=logging.getLogger("millrace.faststream"),
            log_level=logging.DEBUG,
        )

    def subscribe(self, consumer: str, handler: Handler) -> None:
        """Have ``handler`` answer what is delivered to ``consumer``."""
        assert consumer in self._declared, f"no consumer {consumer!r}: declare it in streams.py"
        assert self._connection is None, "subscribe before start"
        declared = self._declared[consumer]
        self._mine.append(declared)
        self._broker.subscriber(
            stream=JStream(declared.stream, declare=False),
            durable=consumer,
            config=ConsumerConfig(filter_subjects=list(declared.filter_subjects)),
            pull_sub=PullSub(batch_size=BATCH, timeout=PULL_S),
            ack_policy=AckPolicy.MANUAL,
            decoder=_undecoded,
            no_reply=True,
        )(partial(self._take, declared, handler))

    def watch(self, bucket: str, on_change: OnChange, on_lost: OnLost | None = None) -> None:
        """Tell ``on_change`` every key of a bucket, then every change; on the event loop, so it must be quick."""
        assert self._connection is None, "watch before start"
        self._watches.append(BucketWatch(bucket, on_change, on_lost))

    async def start(self) -> None:
        """Connect, tell the watches what there is, then begin to deliver.

        Raises Unavailable if there is no broker, or if it was not provisioned for us.
        """
        try:
            self._connection = await asyncio.wait_for(self._broker.connect(), self._patience.connect_s)
            missing = await self._guard.missing(self._connection)
            if missing:
                raise Unavailable(f"{'; '.join(missing)}: run python -m libs.common.bus.provision")
            for watch in self._watches:
                await watch.start(self._connection)
            await self._broker.start()
        except LOST as lost:
            await self.stop()
            raise Unavailable(f"no NATS server with JetStream answers at {self._where}: start it ({lost!r})") from lost
        except Unavailable:
            await self.stop()
            raise
        await self._guard.start(self._connection)

    async def stop(self) -> None:
        """Finish what is being handled, then disconnect; also while the broker is down."""
        self._is_stopping = True
        await self._guard.stop()
        for watch in self._watches:
            await watch.stop()
        for subscriber in self._broker.subscribers:
            with contextlib.suppress(*LOST):
                await subscriber.stop()
        if self._handling:
            await asyncio.wait(self._handling, timeout=self._patience.stop_s)
        with contextlib.suppress(*LOST):  # A broker that is away can't be said goodbye to.
            await self._broker.stop()
        if self._connection is not None and not self._connection.is_closed:
            await self._connection.close()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def publish(self, messages: Sequence[Message]) -> int:
        """Store the messages one after the other and say how many are; never one after one that is not.

        One round trip each: pipelining would store what follows a refused message, and with an fsync per message it
        gains but a factor of 2.4 (4,200 against 1,750 a second).
        """
        assert self._connection is not None, "start first"
        stream = self._connection.jetstream()
        deadline_s = time.monotonic() + self._patience.publish_s
        for stored, message in enumerate(messages):
            left_s = deadline_s - time.monotonic()
            if left_s <= 0 or not self._connection.is_connected:
                return stored
            headers = {**message.headers, "Nats-Msg-Id": message.id}
            try:
                await stream.publish(message.subject, message.body, left_s, message.stream, headers)
            except LOST as refusal:
                self._note(message, refusal)
                return stored
        return len(messages)

    def is_healthy(self) -> bool:
        """Whether it is connected, allowed to work, its consumers exist and its watches follow."""
        return (
            self._connection is not None
            and self._connection.is_connected
            and self._guard.is_content
            and not self._is_denied
            and all(each.is_live for each in self._watches)
        )

    async def _take(self, consumer: Consumer, handler: Handler, raw: Msg) -> None:
        """Have one message handled, and fetch on meanwhile: a slow one must not keep the others waiting."""
        await self._room.acquire()
        handling = asyncio.create_task(self._handle(consumer, handler, raw))
        self._handling.add(handling)
        handling.add_done_callback(self._handled)

    def _handled(self, handling: asyncio.Task[None]) -> None:
        self._handling.discard(handling)
        self._room.release()

    async def _handle(self, consumer: Consumer, handler: Handler, raw: Msg) -> None:
        """Handle one message and answer for it. One that we can't answer for comes again after ack_wait."""
        delivery = _delivery(raw, consumer.name)
        working = asyncio.get_running_loop().run_in_executor(self._threads, handler, delivery)
        try:
            while not (await asyncio.wait({working}, timeout=consumer.ack_wait_s / BEATS))[0]:
                with contextlib.suppress(*LOST):
                    await raw.in_progress()
            answer = working.result()
        except Exception:  # This loop owns the message: a handler that raised has not answered.
            log.exception("handler raised", extra=fields(consumer=consumer.name, event_id=delivery.message.id))
            return
        try:
            await self._answer(raw, delivery, answer)
        except LOST as lost:
            log.warning("answer was lost", extra=fields(consumer=consumer.name, reason=repr(lost)))

    async def _answer(self, raw: Msg, delivery: Delivery, answer: Answer) -> None:
        match answer:
            case Ack():
                await raw.ack()
            case Retry(delay_s=delay_s):
                await raw.nak(delay=delay_s)
            case Dead(reason=reason):
                letter = dead_letter(
                    delivery.message, consumer=delivery.consumer, reason=reason, attempt=delivery.attempt
                )
                if await self.publish([letter]):  # Kept first, dropped then: a crash between keeps it twice, as one.
                    await raw.term()
                else:
                    await raw.nak(delay=DEAD_AGAIN_S)

    def _note(self, message: Message, refusal: BaseException) -> None:
        if self._refused == message.id:
            return  # The relay tries again five times a second; once is enough to say.
        self._refused = message.id
        log.warning(
            "message is not stored", extra=fields(event_id=message.id, stream=message.stream, reason=repr(refusal))
        )

    async def _on_error(self, error: Exception) -> None:
        if "permissions violation" in str(error).lower():
            self._is_denied = True  # It would only show as timeouts (reliability.md L12).
            log.error("permission denied by the broker", extra=fields(service=self._name, reason=str(error)))

    async def _on_disconnected(self) -> None:
        if not self._is_stopping:
            log.warning("broker is away", extra=fields(service=self._name, url=self._where))

    async def _on_reconnected(self) -> None:
        log.info("broker is back", extra=fields(service=self._name, url=self._where))
        for watch in self._watches:
            watch.reconnected()
        with contextlib.suppress(*LOST):  # Away again; then this comes again, too.
            await self._broker.pull_again()

    async def _on_closed(self) -> None:
        if not self._is_stopping:
            log.critical("connection is closed for good; exiting to be restarted", extra=fields(service=self._name))
            self._die(EXIT_CLOSED)


async def _undecoded(message: NatsMessage) -> Msg:
    return message.raw_message


def _delivery(raw: Msg, consumer: str) -> Delivery:
    headers, about = raw.headers or {}, raw.metadata
    message = Message(
        id=headers.get("Nats-Msg-Id") or f"{about.stream}:{about.sequence.stream}",
        stream=about.stream,
        subject=raw.subject,
        body=raw.data,
        headers={name: value for name, value in headers.items() if not name.startswith("Nats-")},
    )
    return Delivery(message, consumer, about.num_delivered)
