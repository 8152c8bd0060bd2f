"""One reader of our outbox for all who watch: each notice goes to those of its project, in the order of commits.

It reads only while somebody watches. A subscriber that does not keep up is let go, and can resume without a loss.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Final

from libs.common.errors import QuotaExceeded, Unavailable
from libs.common.store.port import Store, Told
from libs.common.telemetry.logging import fields
from services.endpoint_api.core.notices import TO_ONE, Notice, notice_of
from services.endpoint_api.core.refusal import Gone
from services.endpoint_api.shell import metrics

log = logging.getLogger(__name__)

POLL_S: Final = 0.2  # Bounds how late a watcher hears; five small queries a second while somebody watches.
QUEUE_MAX: Final = 256  # Notices that one watcher may be behind; a project with 20 endpoints tells this many in hours.
WATCHERS_MAX: Final = 1000  # Of one process: a socket and a queue each.
PROJECT_WATCHERS_MAX: Final = 20
PAGE: Final = 500
CATCH_UP_MAX: Final = 100_000  # Positions read for one resume; further back a list is cheaper.


@dataclass(eq=False, slots=True)
class Subscription:
    """A watcher: it hears of its project, of one endpoint if it named one, from behind `start`."""

    home: str
    subject: str
    start: int
    after: int = 0  # Where it resumed: it may have been further on than our reader is.
    queue: asyncio.Queue[Notice] = field(default_factory=lambda: asyncio.Queue(QUEUE_MAX))
    is_lagging: bool = False

    def hears(self, notice: Notice) -> bool:
        """Whether a notice is for this watcher."""
        is_its = notice.home == self.home and self.subject in ("", notice.subject) and notice.kind not in TO_ONE
        return is_its and notice.position > self.after


class Feed:
    """Fans the outbox out. All but `_read` runs on the event loop."""

    def __init__(self, store: Store, home_of_endpoint: Callable[[str], str], *, poll_s: float = POLL_S) -> None:
        self._store = store
        self._home = home_of_endpoint
        self._poll_s = poll_s
        self._position = 0
        self._subscribers: set[Subscription] = set()
        self._reading: asyncio.Task[None] | None = None

    async def subscribe(self, home: str, *, subject: str = "", after: int | None = None) -> Subscription:
        """Begin to hear. Raises QuotaExceeded, Unavailable for too many watchers, Gone for a position too old."""
        if sum(each.home == home for each in self._subscribers) >= PROJECT_WATCHERS_MAX:
            raise QuotaExceeded(f"a project may have {PROJECT_WATCHERS_MAX} watches at once; close one")
        if len(self._subscribers) >= WATCHERS_MAX:
            raise Unavailable("there are too many watches; try again", retry_after_s=5.0)
        told = await asyncio.to_thread(self._store.told, after=after or 0, limit=1)
        if after is not None:
            _check(after, told)
        if self._reading is None or self._reading.done():
            self._position = told.last
            self._reading = asyncio.create_task(self._read_on())
        subscription = Subscription(home, subject, self._position, after or 0)
        self._subscribers.add(subscription)
        metrics.WATCHERS.set(len(self._subscribers))
        return subscription

    def unsubscribe(self, subscription: Subscription) -> None:
        """Hear no more; again, nothing happens."""
        self._subscribers.discard(subscription)
        metrics.WATCHERS.set(len(self._subscribers))
        if not self._subscribers and self._reading is not None:
            self._reading.cancel()
            self._reading = None

    async def missed(self, subscription: Subscription, after: int) -> AsyncIterator[Notice]:
        """What was told from behind ``after`` until the subscription began."""
        while after < subscription.start:
            told = await asyncio.to_thread(self._store.told, after=after, limit=PAGE)
            if not told.messages:
                return
            for notice in await asyncio.to_thread(self._notices, told):
                if notice.position <= subscription.start and subscription.hears(notice):
                    yield notice
            after = told.messages[-1].position

    async def round(self) -> int:
        """Read what is new and hand it on; returns how many messages there were."""
        told, notices = await asyncio.to_thread(self._read, self._position)
        if not told.messages:
            return 0
        for notice in notices:
            self._hand_on(notice)
        self._position = told.messages[-1].position
        return len(told.messages)

    def _hand_on(self, notice: Notice) -> None:
        for each in tuple(self._subscribers):
            if not each.hears(notice) or each.is_lagging:
                continue
            try:
                each.queue.put_nowait(notice)
            except asyncio.QueueFull:
                each.is_lagging = True  # What is in its queue is whole; it resumes from there.

    def _read(self, after: int) -> tuple[Told, list[Notice]]:
        told = self._store.told(after=after, limit=PAGE)
        return told, self._notices(told)

    def _notices(self, told: Told) -> list[Notice]:
        found = (notice_of(each, self._home) for each in told.messages)
        return [each for each in found if each is not None]

    async def _read_on(self) -> None:
        while True:
            try:
                busy = await self.round()
            except Unavailable as later:
                log.warning("watches wait for the database", extra=fields(reason=str(later)))
                busy = 0
            if not busy:
                await asyncio.sleep(self._poll_s)


def _check(after: int, told: Told) -> None:
    if after < told.first - 1 or after > told.last or told.last - after > CATCH_UP_MAX:
        raise Gone("this position is too old to resume from; list anew, then watch without Last-Event-ID")
