"""Asking an engine: over which connection, and once more, on another replica, if nothing came back.

It tries again only while the client has nothing of an answer, so that one request in is at most one answer out: at
once on another replica, and where that is gone too, as soon as one is there.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Final

from libs.common.telemetry.logging import fields
from libs.common.units import MIB
from services.router.core import audio, http_rules, openai
from services.router.core.surface import AUDIO, FORMS
from services.router.shell import metrics
from services.router.shell.engines.target import Seat
from services.router.shell.engines.upstream import UpstreamConnection
from services.router.shell.request.guest import Guest

log = logging.getLogger(__name__)

TRIES_MAX: Final = 2  # Once, and once more on another replica, or over a fresh connection if there is only one.
LOSSES_MAX: Final = 4  # A request under which so many engines died may be why they did: it is not given to a fifth.
ERROR_BYTES_MAX: Final = 1 * MIB  # What we read of an engine's refusal.
OK: Final = 200
NOT_FOUND: Final = 404
NOT_YET: Final = 503  # An engine that starts, or goes.
CLIENTS_MISTAKE: Final = frozenset({400, 413, 422})


class Asking(Guest):
    """A request as an engine's asker. It holds its replica's seat from `_ask_at` until it ends or `_stop`s."""

    __slots__ = (
        "_error", "_has_content", "_losses", "_lost_s", "_seat", "_seated_s", "_status", "_tries", "_upstream",
        "_was_retired",
    )  # fmt: skip

    def start(self) -> None:
        """Take a place at a replica, or wait for one; `seated` or `turned_away` follows."""
        self._seat: Seat | None = None
        self._upstream: UpstreamConnection | None = None
        self._tries = self._losses = 0
        self._lost_s = 0.0  # When it was left without an engine for the first time.
        self._gateway.waiting.enter(self, self._target, ask=self._ask, lane=self._opening.key_id)

    def _ask_at(self, seat: Seat, now_s: float) -> None:
        """Ask this replica, where a place was taken for this request."""
        gateway = self._gateway
        self._seat, self._seated_s, self._has_content = seat, now_s, False
        self._status = 0
        self._tries += 1
        connection = gateway.pool.take(seat, now_s) if self._tries == 1 else None
        if connection is not None:
            self._send(connection, seat, now_s)
            return
        task = asyncio.get_running_loop().create_task(self._dial(seat))
        gateway.tasks.add(task)
        task.add_done_callback(gateway.tasks.discard)

    def _stop(self) -> None:
        if self._upstream is not None:
            self._upstream.abort()
            self._upstream = None
        seat, self._seat = self._seat, None
        if seat is not None:
            self._was_retired = seat not in self._target.seats  # Has it left the route?
            seat.given_back(answered=self._has_content)
            if self._target.queue.count:
                self._gateway.waiting.serve(self._target)

    def _let_finish(self) -> None:
        """All that matters came: give the replica back, and keep the connection if its answer ends soon."""
        self._note_end()
        if self._upstream is not None:
            self._gateway.pool.let_finish(self._upstream)
            self._upstream = None
        self._stop()

    def _pause(self, paused: bool) -> None:
        """Read no more from the engine, or again."""
        if self._upstream is None:
            return
        if paused:
            self._upstream.pause()
        else:
            self._upstream.resume()

    def _hear_directly(self) -> None:
        """What the engine says until its end is content."""
        if self._upstream is not None:
            self._upstream.hears_body = self.answer_continues

    def _take_chunks(self, take: Callable[[bytes], bool] | None) -> None:
        """Whole HTTP chunks are offered to ``take`` first, as they came, if there is such."""
        if self._upstream is not None:
            self._upstream.takes_chunk = take

    async def _dial(self, seat: Seat) -> None:
        try:
            connection = await self._gateway.pool.dial(seat)
        except (OSError, TimeoutError) as wrong:
            if self._seat is seat:
                self._try_failed(type(wrong).__name__, is_gone=True)
            return
        if self._seat is seat:
            self._send(connection, seat, self._gateway.now_s())
        else:
            self._gateway.pool.give_back(connection, reusable=True)

    def _send(self, connection: UpstreamConnection, seat: Seat, now_s: float) -> None:
        self._upstream = connection
        target, ask = self._target, self._ask
        engine_model = seat.model or target.entry.model
        if ask.api in FORMS:
            body = audio.sound_body(ask, engine_model=engine_model)
        else:
            body = openai.upstream_body(
                ask, engine_model=engine_model, cache_salt=target.cache_salt, tokens_max=self._entered.tokens_max
            )
        account, trace = self._account, self._account.trace
        account.replica, account.queue_ms = seat.name, int((now_s - account.began_s) * 1000)
        traceparent = trace.traceparent if trace else ""
        head = http_rules.upstream_request(seat.heads[ask.api], account.request_id, len(body), traceparent)
        connection.ask(self, head, body)

    def _try_failed(self, reason: str, *, is_gone: bool = False) -> None:
        """It did not answer; ``is_gone``: it may be back, or another come."""
        failed = self._seat
        assert failed is not None, "a try is made at a replica"
        self._note_failure()
        again = self._another(failed) if self._tries < TRIES_MAX and self._may_retry(is_gone) else None
        self._stop()
        entry = self._target.entry
        log.warning(
            "engine did not answer",
            extra=fields(
                request_id=self._account.request_id, endpoint_id=entry.endpoint_id, attempt=self._tries, reason=reason
            ),
        )
        if again is not None:
            metrics.RETRIES.inc()
            self._ask_at(again, self._gateway.now_s())
        elif is_gone and self._losses < LOSSES_MAX:
            self._lost_s = self._lost_s or self._gateway.now_s()
            self.replica_went(failed, self._lost_s)
        else:
            self.engine_failed(reason)

    def _may_retry(self, is_gone: bool) -> bool:
        """An engine that said nothing before it went has no load left that another try could double."""
        if is_gone and not self._status:
            return True
        if self._target.may_retry():
            return True
        metrics.UNRETRIED.inc()
        return False

    def _another(self, failed: Seat) -> Seat | None:
        """A place on another replica, beyond what it may have if need be: this request has waited already."""
        now_s, rules = self._gateway.now_s(), self._gateway.limits.places.rules
        seat = self._target.choose(now_s=now_s, avoid=failed, adapter=self._ask.adapter, rules=rules)
        if seat is not None:
            seat.taken(now_s)
        return seat

    def _note_failure(self) -> None:
        if self._seat is not None and self._seat.health.failed(self._gateway.now_s()):
            metrics.EJECTED.inc()
            log.warning(
                "replica left out",
                extra=fields(endpoint_id=self._target.entry.endpoint_id, reason=f"{self._seat.name} failed"),
            )

    def _note_end(self) -> None:
        if self._seat is not None:
            self._target.service.note(self._gateway.now_s() - self._seated_s)

    # What the connection says.

    def upstream_head(self, status: int, content_type: bytes) -> None:
        """The engine begins to answer."""
        self._status = status
        if status != OK:
            self._error = b""
            return
        if self._ask.api in AUDIO:
            self._account.media = audio.media_of(content_type)
        elif self._ask.stream and not content_type.lower().startswith(b"text/event-stream"):
            self._fail("not an event stream")
            return
        self.answer_begins()

    def upstream_body(self, data: bytes) -> None:
        """More of its answer, or of why there is none."""
        if self._has_content:
            self.answer_continues(data)
            return
        if self._status == OK:
            if self._seat is not None:
                self._has_content = True
                self._seat.answered()
            self.answer_continues(data)
            return
        self._error += data
        if len(self._error) > ERROR_BYTES_MAX:
            self._try_failed("error too large")

    def upstream_complete(self) -> None:
        """All of it came, and the connection is back in the pool."""
        self._upstream = None
        if self._status == OK:
            self._note_end()
            self._stop()
            self.answer_ends()
        elif self._status == NOT_FOUND and self._ask.adapter and self._seat is not None:
            # Restarted since we last heard of it: it has no adapters until it is said to have them again.
            self._seat.adapters = tuple(each for each in self._seat.adapters if each != self._ask.adapter)
            self._try_failed("adapter not loaded", is_gone=True)
        elif self._status in CLIENTS_MISTAKE:
            self._stop()
            self.engine_refused(self._status, self._error)
        else:
            self._try_failed(f"status {self._status}", is_gone=self._status == NOT_YET)

    def upstream_whole(self, content_type: bytes, body: bytes) -> None:
        """All of it came at once, and the connection is back in the pool."""
        seat, target, gateway = self._seat, self._target, self._gateway
        if self._ask.stream or seat is None:
            self.upstream_head(OK, content_type)
            self.upstream_body(body)
            self.upstream_complete()
            return
        self._upstream = self._seat = None
        if self._ask.api in AUDIO:
            self._account.media = audio.media_of(content_type)
        seat.served()
        target.service.note(gateway.now_s() - self._seated_s)
        if target.queue.count:
            gateway.waiting.serve(target)
        self.answer_is(body)

    def upstream_lost(self, reason: str) -> None:
        """The connection broke before the end of the answer."""
        self._upstream = None
        self._losses += 1
        if self.forget_answer():
            self._try_failed(reason, is_gone=True)
        else:
            self._fail(reason)

    def upstream_broken(self, reason: str) -> None:
        """What it says is not HTTP."""
        self._upstream = None
        (self._fail if self._status == OK else self._try_failed)(reason)

    def _fail(self, reason: str) -> None:
        self._note_failure()
        self._stop()
        self.engine_failed(reason)

    # What becomes of it, for the one that inherits.

    def answer_begins(self) -> None:
        """Status 200, and the kind of content that was asked for."""
        raise NotImplementedError

    def answer_continues(self, data: bytes) -> None:
        """More of the body."""
        raise NotImplementedError

    def answer_ends(self) -> None:
        """The body is whole."""
        raise NotImplementedError

    def answer_is(self, body: bytes) -> None:
        """The body is whole, and all that came."""
        raise NotImplementedError

    def engine_refused(self, status: int, body: bytes) -> None:
        """The engine says that the request is at fault."""
        raise NotImplementedError

    def engine_failed(self, reason: str) -> None:
        """No answer, or none to its end; it was tried as often as it may be."""
        raise NotImplementedError

    def forget_answer(self) -> bool:
        """Its engine went: begin anew with the next one. False if the client has some of the answer already."""
        raise NotImplementedError

    def replica_went(self, seat: Seat, since_s: float) -> None:
        """Nor is there another now; this is so since the first one went. It may be seated anew."""
        raise NotImplementedError
