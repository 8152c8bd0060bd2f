"""Following a key-value bucket on JetStream: all of it, then every change, through whatever happens to the broker.

An ordered push consumer of our own, with heartbeats. A gap in its numbers, its silence or a new connection means that
something may have been missed: then the bucket is listed again, and what is gone from it is told. A deletion leaves a
marker in the bucket, so what is gone without one was lost by the broker, not deleted by its owner.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from typing import Final

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.errors import Error
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from nats.js.errors import NotFoundError

from libs.common.bus.port import OnChange, OnLost
from libs.common.errors import Unavailable
from libs.common.tasks import end
from libs.common.telemetry.logging import fields

log = logging.getLogger(__name__)

HEARTBEAT_S: Final = 1.0
SILENCE_S: Final = 3.0  # Three heartbeats missed: the consumer is gone. Bounds how stale a table can be unnoticed.
AGAIN_S: Final = 0.2  # Between attempts to list; five a second are nothing to a broker.
REQUEST_S: Final = 2.0
FORGET_S: Final = 30.0  # The broker forgets a consumer that nobody reads after this.
BREATH: Final = 256  # Changes told before the event loop gets its turn.


class Gap(Error):
    """Something was missed, or may have been."""


class BucketWatch:
    """Tells ``on_change`` on the event loop: it must be quick, like setting a key of a dict."""

    def __init__(self, bucket: str, on_change: OnChange, on_lost: OnLost | None = None) -> None:
        self._bucket = bucket
        self._prefix = f"$KV.{bucket}."
        self._on_change = on_change
        self._on_lost = on_lost
        self._known: set[str] = set()
        self._listed: set[str] | None = None  # Keys seen while listing; None once the present content is told.
        self._connection: Client | None = None
        self._inbox: Subscription | None = None
        self._arrivals: asyncio.Queue[Msg | None] = asyncio.Queue()
        self._last = 0
        self._present = 0
        self._task: asyncio.Task[None] | None = None

    async def start(self, connection: Client) -> None:
        """Tell the present content, then go on in the background.

        Raises Unavailable if there is no such bucket.
        """
        self._connection = connection
        try:
            await self._open()
        except NotFoundError:
            raise Unavailable(f"no bucket {self._bucket!r}: run python -m libs.common.bus.provision") from None
        while self._listed is not None:
            await self._next()
        self._task = asyncio.create_task(self._follow())

    async def stop(self) -> None:
        """Tell nothing any more."""
        if self._task is not None:
            await end(self._task)
        await self._close()

    def reconnected(self) -> None:
        """The connection is a new one: look again, something may have been missed."""
        self._arrivals.put_nowait(None)

    @property
    def is_live(self) -> bool:
        """Whether everything there was is told and changes are being followed."""
        return self._inbox is not None and self._listed is None and self._task is not None and not self._task.done()

    async def _follow(self) -> None:
        told = 0
        while True:
            try:
                if self._inbox is None:
                    await self._open()
                await self._next()
                told += 1
                if told % BREATH == 0:
                    await asyncio.sleep(0)
            except (Error, TimeoutError, OSError) as lost:
                log.info("bucket is listed again", extra=fields(stream=f"KV_{self._bucket}", reason=repr(lost)))
                await self._close()
                await self._wait_for_connection()

    async def _wait_for_connection(self) -> None:
        assert self._connection is not None
        await asyncio.sleep(AGAIN_S)
        while not self._connection.is_connected:  # As long as the outage lasts; `stop` cancels us.
            await asyncio.sleep(AGAIN_S)

    async def _open(self) -> None:
        assert self._connection is not None
        # A queue of its own: what a former consumer still sent must not mix with this one's numbers.
        arrivals = self._arrivals = asyncio.Queue()
        inbox = self._connection.new_inbox()
        self._inbox = await self._connection.subscribe(inbox, cb=arrivals.put)
        self._last, self._listed = 0, set()
        info = await self._connection.jetstream(timeout=REQUEST_S).add_consumer(
            f"KV_{self._bucket}",
            ConsumerConfig(
                name=f"watch-{inbox.rsplit('.', 1)[-1]}",
                deliver_subject=inbox,
                deliver_policy=DeliverPolicy.LAST_PER_SUBJECT,
                filter_subject=f"{self._prefix}>",
                ack_policy=AckPolicy.NONE,
                idle_heartbeat=HEARTBEAT_S,
                inactive_threshold=FORGET_S,
                mem_storage=True,
                num_replicas=1,
            ),
        )
        delivered = info.delivered.consumer_seq if info.delivered else 0
        self._present = (info.num_pending or 0) + delivered
        self._settle()

    async def _close(self) -> None:
        inbox, self._inbox = self._inbox, None
        if inbox is not None:
            with contextlib.suppress(Error, OSError):
                await inbox.unsubscribe()

    async def _next(self) -> None:
        async with asyncio.timeout(SILENCE_S):
            message = await self._arrivals.get()
        if message is None:
            raise Gap("the connection is a new one")
        headers = message.headers or {}
        if "Status" in headers:
            if int(headers.get("Nats-Last-Consumer", self._last)) != self._last:
                raise Gap("the broker sent more than arrived")
            return
        number = message.metadata.sequence.consumer
        if number != self._last + 1:
            raise Gap(f"change {number} came after {self._last}")
        self._last = number
        self._tell(message.subject.removeprefix(self._prefix), _value(message))
        self._settle()

    def _tell(self, key: str, value: bytes | None) -> None:
        if value is None and key not in self._known and self._on_lost is None:
            return
        if value is None:
            self._known.discard(key)
        else:
            self._known.add(key)
            if self._listed is not None:
                self._listed.add(key)
        self._call(lambda: self._on_change(key, value))

    def _miss(self, key: str) -> None:
        """It is not there, and no marker says that it was deleted."""
        if self._on_lost is None:
            self._tell(key, None)
            return
        self._known.discard(key)
        on_lost = self._on_lost
        self._call(lambda: on_lost(key))

    def _call(self, tell: Callable[[], None]) -> None:
        try:
            tell()
        except Exception:  # This loop owns the change: one bad value must not hide those after it.
            log.exception("bucket change failed", extra=fields(stream=f"KV_{self._bucket}"))

    def _settle(self) -> None:
        if self._listed is None or self._last < self._present:
            return
        for gone in sorted(self._known - self._listed):
            self._miss(gone)
        self._listed = None


def _value(message: Msg) -> bytes | None:
    headers = message.headers or {}
    gone = headers.get("KV-Operation") in ("DEL", "PURGE") or "Nats-Marker-Reason" in headers
    return None if gone else message.data
