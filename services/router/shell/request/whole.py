"""A request whose answer is given out when it is whole: after its bill, in one piece."""

from __future__ import annotations

from libs.common.events.tables import KeyEntry
from services.router.core import openai, sse
from services.router.core.relay import WholeAnswer, take_answer
from services.router.shell.edge.client import Client
from services.router.shell.request import reply
from services.router.shell.request.account import Account
from services.router.shell.request.exchange import Exchange
from services.router.shell.request.gateway import Gateway
from services.router.shell.request.phase import ENDED


class Whole(Exchange):
    """One of them. Its client has its first byte when all of it came and its last row is on disk."""

    __slots__ = ("_answer", "_body")

    def __init__(
        self, gateway: Gateway, client: Client, *, ask: openai.Ask, key: KeyEntry, account: Account, keep_alive: bool
    ) -> None:
        super().__init__(gateway, client, ask=ask, key=key, account=account, keep_alive=keep_alive)
        self._answer: WholeAnswer | None = None  # Of one that comes in pieces.
        self._body = b""  # When all of it came.

    def answer_continues(self, data: bytes) -> None:
        """More of its answer."""
        if self._phase in ENDED:
            return
        self._is_heard = True
        if self._answer is None:
            self._answer = WholeAnswer()
        try:
            self._answer.feed(data)
        except sse.BadUpstream as wrong:
            self.engine_failed(str(wrong))

    def answer_ends(self) -> None:
        """All of it came."""
        self.answer_is(b"" if self._answer is None else self._answer.body())

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
        self._answer = None
