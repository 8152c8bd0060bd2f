"""One client's connection: its socket as a request sees it, and requests one after the other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from libs.common.events.tables import KeyEntry
from services.router.core import audio, http_rules, openai, refusals
from services.router.core.http_rules import Head
from services.router.core.refusals import HttpRefusal
from services.router.core.room import UNCOUNTED_BYTES, Holding
from services.router.core.surface import FORMS
from services.router.shell import metrics
from services.router.shell.edge.entrance import Entrance
from services.router.shell.edge.intake import Incoming, Reading
from services.router.shell.edge.sure import Sure
from services.router.shell.request.account import Account
from services.router.shell.request.streamed import Streamed
from services.router.shell.request.whole import Whole

if TYPE_CHECKING:
    from services.router.shell.edge.server import Edge

log = logging.getLogger(__name__)

SILENT_S: Final = 75.0  # How long a client's pool may hold a connection on which nothing happens.
WAIT_S: Final[Mapping[Reading, float]] = MappingProxyType(  # For the rest of what has begun.
    {Reading.NOTHING: SILENT_S, Reading.HEAD: 10.0, Reading.BODY: 60.0}
)
LINGER_S: Final = 1.0  # After a refusal: time for the client to read it before the socket goes.


class ClientConnection(Entrance):
    """One client."""

    __slots__ = (
        "_asked_bytes", "_deadline_s", "_gateway", "_holding", "_is_shed", "_reading", "_sure", "_wants_head_only",
    )  # fmt: skip

    def __init__(self, edge: Edge) -> None:
        super().__init__(edge)
        self._gateway = edge.gateway
        self._wants_head_only = False
        self._reading = Reading.HEAD
        self._sure = Sure(edge)
        self._holding = Holding(edge.gateway.room)
        self._asked_bytes = 0  # Of the body of the request that is being answered, if that is large.
        self._is_shed = False  # Whether the next request is refused because this process is overloaded.
        self._deadline_s = self._gateway.now_s() + WAIT_S[Reading.HEAD]

    # The transport's callbacks.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """A client connected."""
        super().connection_made(transport)
        if not self._edge.add(self):
            self._refuse_and_close(refusals.stopping())

    def _go_on(self, data: bytes) -> None:
        intake = self._intake
        intake.feed(data)
        size_bytes = intake.body_bytes
        if size_bytes > UNCOUNTED_BYTES and (key := intake.last_key) is not None:
            try:
                self._holding.hold(key.tenant_id, size_bytes + self._asked_bytes)
            except HttpRefusal as refusal:
                intake.stop(refusal)
        self._next()

    def _begin(self, data: bytes, *, is_shed: bool = False) -> None:
        intake, self._is_shed = self._intake, is_shed
        body = intake.recognise(data)
        if body is None or intake.familiar is None:
            self._go_on(data)
        elif is_shed:
            self._send_away()
        else:
            self._repeat(intake.familiar.head, body)

    def _repeat(self, head: Head, body: bytes) -> None:
        """A request whose head is the one before's: what is new are its body, its time, and perhaps its key."""
        gateway, key, sure = self._gateway, self._intake.known_key, self._sure
        now_ms = gateway.clock.now_ms()
        if key is not sure.key or sure.keys is not gateway.keyring.edition or now_ms >= sure.until_ms:
            try:
                key = self._intake.known_key = sure.look_again(head, self._intake.peer, key, now_ms)
            except HttpRefusal as refusal:
                self._intake.stop(refusal)
                self._refuse_and_close(refusal, head)
                return
        self._handle(head, body, key, gateway.account(head, now_ms))

    def _send_away(self) -> None:
        """There is no time for it, not even to read it."""
        self._deadline_s = self._gateway.now_s() + SILENT_S
        answer = self._arrivals.answer()
        self.written += len(answer)
        self.transport.write(answer)

    def eof_received(self) -> None:
        """The client shut its side: it has left. What was written is still flushed, then the socket closes."""
        self.is_open, self._drained = False, None
        if self._exchange is not None:
            self._exchange.client_left()

    def connection_lost(self, exc: Exception | None) -> None:
        """The socket is gone."""
        super().connection_lost(exc)
        self._intake.forget()
        self._holding.keep(0)
        self._edge.remove(self)
        exchange, self._exchange = self._exchange, None
        if exchange is not None:
            exchange.client_left()
            exchange.client_gone()

    def pause_writing(self) -> None:
        """The client does not keep up."""
        super().pause_writing()
        if self._exchange is not None:
            self._exchange.client_paused(True)

    def resume_writing(self) -> None:
        """It does again."""
        self.is_paused = False
        self._hear_again()
        if self._exchange is not None:
            self._exchange.client_paused(False)
        super().resume_writing()

    # What a request does with its client.

    def refuse(self, refusal: HttpRefusal, *, request_id: str, keep_alive: bool) -> None:
        """Answer with an error."""
        metrics.note_refusal(refusal)
        self._answer(
            http_rules.answer(
                refusal.status,
                refusal.body(),
                request_id=request_id,
                keep_alive=keep_alive,
                retry_after_s=self._gateway.retry_after_s(refusal),
                headers=refusal.headers,
            )
        )

    def _answer(self, answer: bytes) -> None:
        self.write(http_rules.without_body(answer) if self._wants_head_only else answer)

    def over(self, *, keep_alive: bool) -> None:
        """The answer is whole: take the next request, or close."""
        self._exchange = None
        if self._holding.size_bytes:
            self.prompt_gone()
        if not self.is_open:
            return
        if not keep_alive or self._gateway.is_stopping:
            self._close()
            return
        intake = self._intake
        if intake.is_idle:
            self._deadline_s = self._gateway.now_s() + SILENT_S
            return
        self._deadline_s = self._gateway.now_s() + WAIT_S[intake.reading]
        self._next()

    def hold_answer(self, tenant_id: str, size_bytes: int) -> None:
        """So much of its answer is kept until all of it came. Raises HttpRefusal if there is no room for that."""
        self._holding.hold(tenant_id, size_bytes + self._asked_bytes + self._intake.body_bytes)

    def prompt_gone(self) -> None:
        """Of what was held, only what is still being read is, and what the client has not taken of an answer."""
        if self._holding.size_bytes:
            self._asked_bytes = 0
            self._holding.keep(self._intake.body_bytes + self.transport.get_write_buffer_size())

    # The clock, and the end of the process.

    def sweep(self, now_s: float) -> None:
        """Look at the deadlines; one look at all connections is cheaper than a timer for each."""
        if self._exchange is not None:
            self.sent()
            self._exchange.sweep(now_s)
            return
        self.prompt_gone()
        if now_s >= self._deadline_s and not self.unread:
            if self.moves():
                self._deadline_s = now_s + SILENT_S
            elif self._intake.reading is Reading.NOTHING or self._is_lingering or not self.is_open:
                self.abort()
            else:
                self._refuse_and_close(HttpRefusal(408, "The request did not arrive in time."))

    def keys_changed(self) -> None:
        """A key may have been taken back: what runs for it ends, and what is being read is not served."""
        self._intake.drop(self._gateway.keyring.is_revoked)
        if self._exchange is not None:
            self._exchange.keys_changed()
        self._next()

    def close_if_idle(self) -> None:
        """The process stops: who waits for nothing is told so by a close."""
        if self._exchange is None and self._intake.reading is Reading.NOTHING and not self.unread:
            self._close()

    # Handling requests, one after the other.

    def _next(self) -> None:
        intake = self._intake
        while self._exchange is None and self.is_open and not self._is_lingering:
            if intake.ready:
                self._take(intake.ready.pop(0))
            elif intake.broken is not None:
                self._refuse_and_close(intake.broken, intake.broken_at)
                return
            else:
                break
        if self._exchange is not None or not self.is_open or self._is_lingering:
            return  # Also where a request that took no time had the rest handled, and that was refused.
        if intake.wants_continue():
            if self._is_shed:
                self._refuse_and_close(self._arrivals.refusal())
                return
            self.write(http_rules.CONTINUE)
        if intake.reading is not self._reading:
            self._reading = intake.reading
            self._deadline_s = self._gateway.now_s() + WAIT_S[self._reading]

    def _take(self, incoming: Incoming) -> None:
        head = incoming.head
        assert head is not None
        if self._is_shed and head.method == "POST" and head.keep_alive:
            self.prompt_gone()
            self._send_away()
            return
        self._handle(head, incoming.body(), incoming.key, self._gateway.account(head))

    def _handle(self, head: Head, body: bytes, key: KeyEntry | None, account: Account) -> None:
        self._wants_head_only, gateway, api = head.method == "HEAD", self._gateway, head.api
        try:
            if api is None or head.method == "OPTIONS":
                self._look_up(head, key, account)
                return
            if gateway.is_stopping:
                raise refusals.stopping()
            if self._is_shed:
                raise self._arrivals.refusal()
            assert key is not None
            if len(body) > UNCOUNTED_BYTES:
                self._holding.hold(key.tenant_id, len(body) + self._intake.body_bytes)
                self._asked_bytes = len(body)
            host = gateway.named(head.host, key) if gateway.domain or gateway.table.by_host else ""
            if api in FORMS:
                ask = audio.read_sound(api, body, content_type=head.content_type, host=host)
            else:
                ask = openai.read(api, body, host=host)
            kind = Streamed if ask.stream else Whole
            exchange = kind(gateway, self, ask=ask, key=key, account=account, keep_alive=head.keep_alive)
            self._exchange = exchange
            exchange.start()
        except HttpRefusal as refusal:
            self._turn_away(refusal, account, keep_alive=head.keep_alive)
            self.over(keep_alive=head.keep_alive)

    def _look_up(self, head: Head, key: KeyEntry | None, account: Account) -> None:
        """Answer what needs no engine. Raises HttpRefusal."""
        if head.method == "OPTIONS":
            methods = self._edge.methods(head)
            self.write(http_rules.allowed(methods, request_id=account.shown_id, keep_alive=head.keep_alive))
        else:
            found = self._edge.lookup(head, key)
            self._answer(http_rules.answer(200, found, request_id=account.shown_id, keep_alive=head.keep_alive))
        account.looked_up()
        self.over(keep_alive=head.keep_alive)

    # Ends.

    def _refuse_and_close(self, refusal: HttpRefusal, head: Head | None = None) -> None:
        """Nothing more can be read here. A close over unread bytes would reset the answer away: drop them."""
        self._wants_head_only = head is not None and head.method == "HEAD"
        self._turn_away(refusal, self._gateway.stranger(head), keep_alive=False)
        self._is_lingering, self._deadline_s = True, self._gateway.now_s() + LINGER_S
        if self.transport.can_write_eof():  # TLS can't: there the client reads it within `LINGER_S`.
            self.transport.write_eof()

    def _turn_away(self, refusal: HttpRefusal, account: Account, *, keep_alive: bool) -> None:
        """It never became a request to an engine."""
        self.refuse(refusal, request_id=account.refused(refusal), keep_alive=keep_alive)
        account.over()

    def _close(self) -> None:
        self.is_open = False
        self.transport.close()  # When all is sent; `sweep` sees to it that this ends.
