"""The verbs on watches: first how things stand, then every change, as server-sent events."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Final

from libs.common.errors import MillraceError, Rejected, Unavailable
from services.endpoint_api.core.caller import Caller, Scope
from services.endpoint_api.core.notices import Notice
from services.endpoint_api.core.state import home_of
from services.endpoint_api.core.status import EndpointView
from services.endpoint_api.shell import metrics
from services.endpoint_api.shell.feed import Feed, Subscription
from services.endpoint_api.shell.secrets import Secrets
from services.endpoint_api.shell.verbs.endpoints import EndpointVerbs

HEARTBEAT_S: Final = 15.0  # Proxies cut what is silent for 30 to 60 s.
RECHECK_S: Final = 5.0  # How long a watch outlives its key.
PAGE: Final = 100  # Endpoints read at once when a watch begins.
HEARTBEAT: Final = b": still here\n\n"
ENDS: Final = {
    "too_slow": "this watch did not keep up; resume with Last-Event-ID",
    "unauthorized": "the key or role of this watch is no longer good",
    "unavailable": "the database does not answer; resume with Last-Event-ID",
}


class WatchVerbs:
    """What a tenant may watch."""

    def __init__(
        self,
        endpoints: EndpointVerbs,
        feed: Feed,
        secrets: Secrets,
        *,
        heartbeat_s: float = HEARTBEAT_S,
        recheck_s: float = RECHECK_S,
    ) -> None:
        self._endpoints = endpoints
        self._feed = feed
        self._secrets = secrets
        self._heartbeat_s = heartbeat_s
        self._recheck_s = recheck_s

    async def open(self, caller: Caller, ref: str = "", *, last_id: str = "") -> Subscription:
        """Begin a watch of an endpoint, or of the project.

        Raises NotFound, Forbidden, FieldRefused for a position of another's, Gone for one too old, QuotaExceeded.
        """
        caller.needs(Scope.READ)
        home = home_of(caller.tenant_id, caller.project_id)
        subject = (await asyncio.to_thread(self._endpoints.get, caller, ref)).id if ref else ""
        after = await asyncio.to_thread(self._secrets.position, home, last_id) if last_id else None
        return await self._feed.subscribe(home, subject=subject, after=after)

    def close(self, subscription: Subscription) -> None:
        """End a watch; again, nothing happens."""
        self._feed.unsubscribe(subscription)

    async def events(
        self, caller: Caller, watch: Subscription, *, last_id: str, still_good: Callable[[], Caller]
    ) -> AsyncIterator[bytes]:
        """The stream. ``still_good`` says who the caller is by now, or raises Rejected."""
        ended = ""
        try:
            if last_id:
                async for notice in self._feed.missed(watch, self._secrets.position(watch.home, last_id)):
                    yield self._frame(notice)
            else:
                for view in await asyncio.to_thread(self._present, caller, watch.subject):
                    yield _event("endpoint.present", view.model_dump_json())
                yield _event("watch.ready", "{}", self._secrets.position_id(watch.home, watch.start))
            async for frame in self._live(caller, watch, still_good):
                yield frame
            ended = "too_slow"
        except Rejected:
            ended = "unauthorized"
        except MillraceError:
            ended = "unavailable"
        finally:
            self.close(watch)
            metrics.WATCHES_ENDED.labels(reason=ended or "left").inc()
        yield _event("watch.closed", json.dumps({"code": ended, "message": ENDS[ended]}))

    async def _live(
        self, caller: Caller, watch: Subscription, still_good: Callable[[], Caller]
    ) -> AsyncIterator[bytes]:
        """What comes, until the watcher lags behind."""
        clock = asyncio.get_running_loop().time
        beat_s, check_s = clock() + self._heartbeat_s, clock() + self._recheck_s
        while not (watch.is_lagging and watch.queue.empty()):
            try:
                wait_s = max(0.0, min(beat_s, check_s) - clock())
                yield self._frame(await asyncio.wait_for(watch.queue.get(), wait_s))
            except TimeoutError:
                pass
            if clock() >= check_s:
                await self._recheck(caller, still_good)
                check_s = clock() + self._recheck_s
            if clock() >= beat_s:
                yield HEARTBEAT
                beat_s = clock() + self._heartbeat_s

    @staticmethod
    async def _recheck(caller: Caller, still_good: Callable[[], Caller]) -> None:
        try:
            now = await asyncio.to_thread(still_good)
        except Unavailable:
            return  # A database that is away revokes nothing; the next check is soon.
        now.needs(Scope.READ)
        if home_of(now.tenant_id, now.project_id) != home_of(caller.tenant_id, caller.project_id):
            raise Rejected("the caller is in another project now")

    def _present(self, caller: Caller, subject: str) -> list[EndpointView]:
        if subject:
            return [self._endpoints.get(caller, subject)]
        page = self._endpoints.list(caller, limit=PAGE)
        found = list(page.items)
        while page.next_cursor:
            page = self._endpoints.list(caller, cursor=page.next_cursor, limit=PAGE)
            found += page.items
        return found

    def _frame(self, notice: Notice) -> bytes:
        return _event(notice.kind, notice.body, self._secrets.position_id(notice.home, notice.position))


def _event(kind: str, data: str, id: str = "") -> bytes:
    """One server-sent event; ``data`` is JSON in one line."""
    head = f"id: {id}\n" if id else ""
    return f"{head}event: {kind}\ndata: {data}\n\n".encode()
