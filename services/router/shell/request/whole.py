"""A request whose answer is given out when it is whole: after its bill, in one piece."""

from __future__ import annotations

from services.router.core import sse
from services.router.core.relay import WholeAnswer, take_answer
from services.router.shell.request import reply
from services.router.shell.request.exchange import Exchange
from services.router.shell.request.phase import ENDED


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
        except sse.BadUpstream as wrong:
            self.engine_failed(str(wrong))

    def answer_ends(self) -> None:
        """All of it came."""
        self.answer_is(self._answer.body())

    def answer_is(self, body: bytes) -> None:
        """Write its bill, and when that is durable give it out."""
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

    def _give_out(self) -> None:
        self._is_answered = True
        self._client.write(reply.whole(self._account, self._entered, self._serving, self._keep_alive, self._body))
        self._end(keep_alive=self._keep_alive)

    def _forget(self) -> None:
        """Each answer begins anew."""
