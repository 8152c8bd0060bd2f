"""A request whose answer is passed on as it comes: nothing before its first row is on disk, its end after its last."""

from __future__ import annotations

from functools import partial
from typing import Final

from libs.common.events.tables import KeyEntry
from services.router.core import http_rules, openai, refusals
from services.router.core.event_forms import Form
from services.router.core.refusals import HttpRefusal
from services.router.core.relay import StreamedAnswer, StreamedSound
from services.router.core.serving import Finish, Row, Serving
from services.router.shell.edge.client import Client
from services.router.shell.engines.target import Seat
from services.router.shell.request.account import Account
from services.router.shell.request.entering import Entered
from services.router.shell.request.exchange import Exchange
from services.router.shell.request.gateway import Gateway
from services.router.shell.request.phase import ANSWERING, ASKING, ENDED, ENDING, WAITING
from services.router.shell.request.shortcut import Shortcut

HELD_BYTES_MAX: Final = 256 * 1024  # What an engine may say before the first row is on disk, until we read no more.


class Streamed(Exchange):
    """One of them."""

    __slots__ = ("_form", "_has_ended", "_held", "_is_recorded", "_looked_at", "_serving", "_shortcut", "_stream")

    def __init__(
        self, gateway: Gateway, client: Client, *, ask: openai.Ask, key: KeyEntry, account: Account, keep_alive: bool
    ) -> None:
        super().__init__(gateway, client, ask=ask, key=key, account=account, keep_alive=keep_alive)
        self._serving = Serving(self._opening, owes_generated=self._entered.standing.owes_generated)
        head = partial(_head, account, self._entered, self._serving, keep_alive)  # A method makes a circle.
        kind = StreamedAnswer if ask.most else StreamedSound
        self._stream = kind(ask, self._serving, head=head, forms=self._target.forms)
        self._shortcut = Shortcut(client, self._serving, gateway.journal, gateway.clock)
        self._form: Form | None = None
        self._looked_at = 0  # Where content ended at the last look at the deadline.
        self._is_recorded = self._has_ended = False
        self._held = b""  # Said by the engine before the first row was on disk.

    def seated(self, seat: Seat) -> None:
        """As every request; what the engine says is passed on when the first row is on disk."""
        is_first = self._phase is WAITING
        super().seated(seat)
        if self._phase is not ASKING:
            return  # It could not be recorded.
        limits = self._gateway.limits
        self._wait_at_most(limits.first_byte_s if self._ask.most else limits.total_s)
        if is_first:
            self._gateway.journal.on_disk().then(self._recorded)

    def client_paused(self, paused: bool) -> None:
        """The client reads too slowly, or again fast enough."""
        super().client_paused(paused)
        if not paused and self._phase is ANSWERING:
            self._shortcut.note_sent()

    def sweep(self, now_s: float) -> None:
        """As every request; what took the shortcut was heard as well, and a checkpoint may be due by the clock."""
        serving = self._serving
        if self._phase is ANSWERING:
            if serving.end != self._looked_at:
                self._is_heard, self._looked_at = True, serving.end
            if serving.tokens > serving.checkpointed and self._gateway.clock.now_ms() >= serving.due_ms:
                self._shortcut.note_sent()
        super().sweep(now_s)

    def _recorded(self, error: BaseException | None) -> None:
        """The first row is on disk: let out what came meanwhile."""
        if self._phase in ENDED:
            return
        if error is not None:
            self._cut_short(refusals.cannot_record(), f"not recorded: {error}")
            return
        self._is_recorded = True
        self._pause(self._client.is_paused)
        held, self._held = self._held, b""
        if held:
            self.answer_continues(held)
        if self._has_ended:
            self.answer_ends()

    # What the engine says.

    def answer_continues(self, data: bytes) -> None:
        """More of its answer: pass it on."""
        if self._phase in ENDED:
            return
        self._is_heard = True
        if not self._is_recorded:
            self._held += data
            self._pause(len(self._held) > HELD_BYTES_MAX)
            return
        now_ms, client, stream = self._gateway.clock.now_ms(), self._client, self._stream
        out = stream.feed(data, at=client.written, now_ms=now_ms)
        if out:
            if self._phase is ASKING:
                self._phase = ANSWERING
                self._ask.rest.clear()  # Nobody is asked again: the prompt need not stay as long as its answer takes.
                self._client.prompt_gone()
                self._hear_directly()
            client.write(out)
            if self._serving.tokens >= self._serving.due_tokens:
                self._shortcut.note_sent()
        if stream.broken:
            self.engine_failed(stream.broken)
        elif stream.is_done:
            self._settle()
        elif stream.form is not self._form:
            self._learn(stream.form)

    def _learn(self, form: Form | None) -> None:
        """The form of its events is known, or no longer."""
        self._form = form
        if form is not None:
            self._shortcut.know(form)
        self._take_chunks(None if form is None else self._shortcut.take)

    def answer_ends(self) -> None:
        """All of it came."""
        if self._phase in ENDED:
            return
        self._has_ended = True
        if not self._is_recorded:
            return  # Then.
        if self._stream.has_end:
            self._settle()
        else:
            self.engine_failed("the stream ended without an end")

    def forget_answer(self) -> bool:
        """Its engine went: begin anew with what the next one says. False if the client has some of it already."""
        if self._phase is not ASKING or self._serving.has_final:
            return False
        self._held = b""
        self._stream.forget()
        return True

    # Answering the client.

    def _settle(self) -> None:
        """All content is relayed: when the socket took it, write the bill; when that is durable, end the answer."""
        self._let_finish()
        self._client.write(self._stream.begin())
        self._phase = ENDING
        self._client.when_drained(self._complete)

    def _complete(self) -> None:
        if self._row is not None or not self._client.is_open:
            return
        now_ms = self._gateway.clock.now_ms()
        sent = self._client.sent()
        self._serving.sent(sent, now_ms)
        row = self._serving.completed(now_ms, egress_bytes=sent - self._sent_before)
        self._commit(row, self._send_terminal_frame)

    def _send_terminal_frame(self) -> None:
        self._client.write(self._stream.terminal_frame())
        self._end(keep_alive=self._keep_alive, is_answered=True)

    def unbilled_tokens(self) -> int:
        """What its client has got and no bill has yet."""
        return 0 if self._account.row is not None else self._serving.delivered

    def _interrupted(self, finish: Finish, now_ms: int, sent: int) -> Row:
        self._serving.sent(sent, now_ms)
        return self._serving.interrupted(finish, now_ms, egress_bytes=sent - self._sent_before)

    def _break_off(self, refusal: HttpRefusal, finish: Finish) -> None:
        """With an error event, if the client has seen some of the answer."""
        if self._phase is not ANSWERING:
            self._refuse(refusal, finish)
            return
        self._phase = ENDING
        self._stop()
        if finish is Finish.UPSTREAM_ERROR and self._was_retired:
            finish = Finish.DRAIN_CUT

        def say_so() -> None:
            self._client.write(self._stream.cut(refusal))
            self._end(keep_alive=False)

        def when_taken() -> None:
            if self._row is None:
                self._bill(finish, say_so)

        self._client.when_drained(when_taken)


def _head(account: Account, entered: Entered, serving: Serving, keep_alive: bool) -> bytes:
    """What comes before the first content: how it is served is known only then."""
    headers, entered.headers = entered.headers + account.answered(entered.target.place, serving.cached_tokens), b""
    return http_rules.stream_head(
        request_id=account.shown_id, keep_alive=keep_alive, headers=headers, media=account.media
    )
