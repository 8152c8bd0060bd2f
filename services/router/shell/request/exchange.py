"""One request on its way to a model: client on one side, engine on the other, the bill between them.

The order of its steps is that of `core/serving.py`. Everything runs in the event loop, in callbacks; none waits.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import Final

from libs.common.errors import Unavailable
from libs.common.events.tables import KeyEntry
from libs.common.telemetry.logging import fields
from services.router.core import answers, openai, refusals, sse
from services.router.core.refusals import HttpRefusal
from services.router.core.relay import StreamedAnswer, StreamedSound, WholeAnswer, take_answer
from services.router.core.serving import Finish
from services.router.shell.edge.client import Client
from services.router.shell.engines.target import Seat
from services.router.shell.request import reply
from services.router.shell.request.account import Account
from services.router.shell.request.asking import Asking
from services.router.shell.request.gateway import Gateway
from services.router.shell.request.guest import Guest
from services.router.shell.request.phase import ANSWERING, ASKING, ENDED, ENDING, HELD, OVER, WAITING

log = logging.getLogger(__name__)

HELD_BYTES_MAX: Final = 256 * 1024  # What an engine may say before the first row is on disk, until we read no more.
FLUSH_S: Final = 5.0  # How long a client that left may still take what it was sent.


class Exchange(Guest):
    """One request, from its admission to its bill."""

    __slots__ = ("_asking", "_body", "_has_ended", "_held", "_is_recorded", "_stream", "_whole")

    def __init__(
        self, gateway: Gateway, client: Client, *, ask: openai.Ask, key: KeyEntry, account: Account, keep_alive: bool
    ) -> None:
        super().__init__(gateway, client, ask=ask, key=key, account=account, keep_alive=keep_alive)
        target, entered = self._target, self._entered
        self._asking = Asking(gateway, self, target=target, ask=ask, account=account, tokens_max=entered.tokens_max)
        if ask.stream:  # There is the one or the other.
            head = partial(reply.stream_head, account, entered, self._serving, keep_alive)  # A method makes a circle.
            self._stream = (StreamedAnswer if ask.most else StreamedSound)(ask, self._serving, head=head)
        else:
            self._whole = WholeAnswer()
        self._body = b""  # An answer that is not streamed, when all of it came.
        self._is_recorded = self._has_ended = False
        self._held = b""  # Said by the engine before the first row was on disk.

    # What drives it: its place, the client, the clock, the control half.

    def seated(self, seat: Seat) -> None:
        """Write the first row, once, then ask the engine; what it says is passed on when the row is on disk."""
        journal, is_first = self._gateway.journal, self._phase is WAITING
        self._asking.seated(seat)
        if is_first:
            try:
                journal.begin(self._serving.opening)
            except Unavailable as wrong:
                why = fields(request_id=self._account.request_id, reason=str(wrong))
                log.error("usage journal refused a request", extra=why)
                self.turned_away(refusals.cannot_record())
                return
        self._phase = ASKING
        self._total_s = self._deadline_s = self._gateway.now_s() + self._gateway.limits.total_s
        if self._ask.stream:  # What is not has its first byte when it is whole, after its last row is on disk.
            self._wait_at_most(self._gateway.limits.first_byte_s if self._ask.most else self._gateway.limits.total_s)
            if is_first:
                journal.on_disk().then(self._recorded)
        self._asking.start()

    def turned_away(self, refusal: HttpRefusal) -> None:
        """It is not served: nothing is on its bill, which is to be written only where its first row was."""
        if self._phase is HELD:
            self._account.refused(refusal)
            self._refuse(refusal)
        else:
            super().turned_away(refusal)

    def client_left(self) -> None:
        """The client closed, or shut its side: the engine stops now, the bill waits for what the socket still takes."""
        if self._phase is WAITING:
            self._end(keep_alive=False)
        elif self._phase is not OVER and not self._is_committed:
            self._gateway.waiting.leave(self)
            self._phase = ENDING
            self._wait_at_most(FLUSH_S)
            self._asking.stop()

    def client_gone(self) -> None:
        """The socket is closed, and says what it took."""
        if self._phase is not OVER and not self._is_committed:
            self._bill(Finish.CLIENT_DISCONNECT, lambda: self._end(keep_alive=False))

    def client_paused(self, paused: bool) -> None:
        """The client reads too slowly, or again fast enough."""
        self._wait_at_most(self._gateway.limits.idle_s)
        self._asking.pause(paused)
        if not paused and self._phase is ANSWERING:
            self._note_sent(self._gateway.clock.now_ms())

    def cut(self) -> None:
        """The endpoint goes, or this process: end with a bill for what was delivered."""
        if self._phase is WAITING:
            self.turned_away(refusals.stopping())
        else:
            self._cut_short(refusals.stopping(), "cut at the drain deadline", Finish.DRAIN_CUT)

    def sweep(self, now_s: float) -> None:
        """Look at the deadlines; whoever was heard since the last look has its time anew."""
        if self._is_heard:
            self._is_heard, self._deadline_s = False, now_s + self._gateway.limits.idle_s
        if now_s < min(self._deadline_s, self._total_s) or self._phase in (WAITING, HELD, OVER):
            return
        if self._phase is ENDING or self._client.is_paused:
            self._client.abort()
        else:
            self._asking.timed_out()
            self._cut_short(refusals.upstream_timeout(), "timeout")

    def _recorded(self, error: BaseException | None) -> None:
        """The first row is on disk: let out what came meanwhile."""
        if self._phase in ENDED:
            return
        if error is not None:
            self._cut_short(refusals.cannot_record(), f"not recorded: {error}")
            return
        self._is_recorded = True
        self._asking.pause(self._client.is_paused)
        if self._held:
            self.answer_continues(self._held)
        if self._has_ended:
            self.answer_ends()

    # What the engine says.

    def answer_begins(self) -> None:
        """The engine answers; the client hears of it with the first content."""
        self._wait_at_most(self._gateway.limits.idle_s)

    def answer_continues(self, data: bytes) -> None:
        """More of its answer."""
        if self._phase in ENDED:
            return
        self._is_heard = True
        if self._ask.stream:
            self._relay(data)
            return
        try:
            self._whole.feed(data)
        except sse.BadUpstream as wrong:
            self.engine_failed(str(wrong))

    def answer_ends(self) -> None:
        """All of it came."""
        if self._phase in ENDED:
            return
        self._has_ended = True
        if not self._ask.stream:
            self.answer_is(self._whole.body())
        elif not self._is_recorded:
            return  # Then.
        elif self._stream.has_end:
            self._settle()
        else:
            self.engine_failed("the stream ended without an end")

    def answer_is(self, body: bytes) -> None:
        """The answer that is not streamed: write its bill, and when that is durable give it out."""
        if self._phase in ENDED:
            return
        try:
            take_answer(self._ask.api, body, self._serving)
        except sse.BadUpstream as wrong:
            self.engine_failed(str(wrong))
            return
        self._body = body
        row = self._serving.completed(self._gateway.clock.now_ms(), egress_bytes=len(body))
        self._commit(row, self._give_out)

    def engine_refused(self, status: int, body: bytes) -> None:
        """The request is at fault, says the engine; its words go to the client, in our shape."""
        self._refuse(HttpRefusal(status, answers.error_message(body)))

    def engine_failed(self, reason: str) -> None:
        """No answer, or none to its end."""
        self._cut_short(refusals.upstream_failed(), reason)

    def forget_answer(self) -> bool:
        """Its engine went: begin anew with what the next one says. False if the client has some of it already."""
        if self._phase is not ASKING or self._serving.has_final:
            return False
        self._held = b""
        (self._stream if self._ask.stream else self._whole).forget()
        return True

    def replica_went(self, seat: Seat, since_s: float) -> None:
        """Nor is there another now: wait for one, if there is to be one."""
        gateway, target = self._gateway, self._target
        entry = gateway.table.held(target.entry.endpoint_id)
        if entry is None or entry.paused:
            self.engine_failed("its endpoint is no longer served")
            return
        self._phase = HELD
        gateway.waiting.enter_again(self, target, ask=self._ask, lane=self._lane, failed=seat, since_s=since_s)

    # Answering the client.

    def _relay(self, data: bytes) -> None:
        if not self._is_recorded:
            self._held += data
            self._asking.pause(len(self._held) > HELD_BYTES_MAX)
            return
        now_ms, client, stream = self._gateway.clock.now_ms(), self._client, self._stream
        out = stream.feed(data, at=client.written, now_ms=now_ms)
        if out:
            if self._phase is ASKING:
                self._phase = ANSWERING
                self._ask.rest.clear()  # Nobody is asked again: the prompt need not stay as long as its answer takes.
                self._asking.hear_directly()
            client.write(out)
            if self._serving.is_due:
                self._note_sent(now_ms)
        if stream.broken:
            self.engine_failed(stream.broken)
        elif stream.is_done:
            self._settle()

    def _note_sent(self, now_ms: int) -> None:
        due = self._serving.sent(self._client.sent(), now_ms)
        if due is not None:
            self._gateway.journal.checkpoint(due)

    def _settle(self) -> None:
        """All content is relayed: when the socket took it, write the bill; when that is durable, end the answer."""
        self._asking.let_finish()
        self._client.write(self._stream.begin())
        self._phase = ENDING
        self._client.when_drained(self._complete)

    def _complete(self) -> None:
        if self._is_committed or not self._client.is_open:
            return
        now_ms = self._gateway.clock.now_ms()
        sent = self._client.sent()
        self._serving.sent(sent, now_ms)
        row = self._serving.completed(now_ms, egress_bytes=sent - self._sent_before)
        self._commit(row, self._send_terminal_frame)

    def _send_terminal_frame(self) -> None:
        self._is_answered = True
        self._client.write(self._stream.terminal_frame())
        self._end(keep_alive=self._keep_alive)

    def _give_out(self) -> None:
        self._is_answered = True
        self._client.write(reply.whole(self._account, self._entered, self._serving, self._keep_alive, self._body))
        self._end(keep_alive=self._keep_alive)

    def _cut_short(self, refusal: HttpRefusal, reason: str, finish: Finish = Finish.UPSTREAM_ERROR) -> None:
        """End it from our side: with an error status if the client has seen nothing, else with an error event."""
        if self._phase in ENDED:
            return
        self._account.refused(refusal)
        log.warning("request cut short", extra=fields(request_id=self._account.request_id, reason=reason))
        if self._phase is not ANSWERING:
            self._refuse(refusal)
            return
        self._phase = ENDING
        self._asking.stop()

        def say_so() -> None:
            self._client.write(self._stream.cut(refusal))
            self._end(keep_alive=False)

        def when_taken() -> None:
            if not self._is_committed:
                self._bill(Finish.DRAIN_CUT if self._asking.was_retired else finish, say_so)

        self._client.when_drained(when_taken)

    def _refuse(self, refusal: HttpRefusal) -> None:
        self._gateway.waiting.leave(self)
        self._asking.stop()

        def send() -> None:
            self._client.refuse(refusal, request_id=self._account.refused(refusal), keep_alive=self._keep_alive)
            self._end(keep_alive=self._keep_alive)

        self._bill(Finish.UPSTREAM_ERROR, send)

    def _stop(self) -> None:
        self._asking.stop()

    def _let_go(self) -> None:
        self._asking.forget()
