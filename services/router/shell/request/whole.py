"""A request whose answer is given out when it is whole: after its bill, in one piece."""

from __future__ import annotations

from services.router.core import http_rules, refusals, sse
from services.router.core.answers import read_answer
from services.router.core.relay import ANSWER_BYTES_MAX, WholeAnswer
from services.router.core.room import UNCOUNTED_BYTES
from services.router.core.serving import Finish, Row, Serving, whole
from services.router.shell.request.account import OK
from services.router.shell.request.exchange import Exchange
from services.router.shell.request.phase import ASKING, ENDED


class Whole(Exchange):
    """One of them. Its client has its first byte when all of it came and its last row is on disk."""

    __slots__ = ("_answer", "_body")

    def answer_begins(self) -> None:
        """It comes in pieces."""
        super().answer_begins()
        self._answer = WholeAnswer()

    def answer_continues(self, data: bytes) -> None:
        """More of its answer."""
        if self._phase in ENDED:
            return
        self._is_heard = True
        try:
            self._answer.feed(data)
            if self._answer.size_bytes > UNCOUNTED_BYTES:
                self._client.hold_answer(self._opening.tenant_id, self._answer.size_bytes)
        except refusals.HttpRefusal as full:
            self._cut_short(full, "no room for its answer")
        except sse.BadUpstream as wrong:
            self._cut_short(refusals.answer_too_large(ANSWER_BYTES_MAX), str(wrong))

    def answer_ends(self) -> None:
        """All of it came."""
        self.answer_is(self._answer.body())

    def answer_is(self, body: bytes) -> None:
        """Write its bill, and when that is durable give it out."""
        if self._phase in ENDED:
            return
        try:
            usage, reason = read_answer(self._ask.api, body)
        except sse.BadUpstream as wrong:
            self.engine_failed(str(wrong))
            return
        self._body, now_ms = body, self._gateway.clock.now_ms()
        self._commit(whole(self._opening, usage, reason, now_ms, egress_bytes=len(body)), self._give_out)

    def forget_answer(self) -> bool:
        """Its engine went: the client has nothing of an answer."""
        return self._phase is ASKING

    def _give_out(self) -> None:
        account, row, keep_alive = self._account, self._row, self._keep_alive
        assert row is not None, "an answer is given out after its bill"
        headers = self._entered.headers + account.answered(self._target.place, row.cached_prompt_tokens)
        answer = http_rules.answer(
            OK, self._body, request_id=account.shown_id, keep_alive=keep_alive, headers=headers, media=account.media
        )
        self._client.write(answer)
        self._end(keep_alive=keep_alive, is_answered=True)

    def _interrupted(self, finish: Finish, now_ms: int, sent: int) -> Row:
        return Serving(self._opening).interrupted(finish, now_ms, egress_bytes=sent - self._sent_before)
