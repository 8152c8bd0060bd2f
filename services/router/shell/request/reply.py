"""What a request's client is told at the beginning of its answer, and when there is none."""

from __future__ import annotations

from services.router.core import http_rules
from services.router.core.refusals import HttpRefusal
from services.router.core.serving import Serving
from services.router.shell.edge.client import Client
from services.router.shell.request.account import Account
from services.router.shell.request.entering import Entered


class Reply:
    """The head of one answer: limits, receipt, id; or the refusal."""

    __slots__ = ("_account", "_client", "_entered", "_keep_alive", "_serving")

    def __init__(
        self, client: Client, account: Account, *, entered: Entered, serving: Serving, keep_alive: bool
    ) -> None:
        self._client = client
        self._account = account
        self._entered = entered
        self._serving = serving
        self._keep_alive = keep_alive

    def stream_head(self) -> bytes:
        """Before the first content of a stream."""
        return http_rules.stream_head(
            request_id=self._account.shown_id, keep_alive=self._keep_alive, headers=self._headers()
        )

    def whole(self, body: bytes) -> None:
        """The answer, all of it."""
        shown_id = self._account.shown_id
        self._client.write(
            http_rules.answer(200, body, request_id=shown_id, keep_alive=self._keep_alive, headers=self._headers())
        )

    def refuse(self, refusal: HttpRefusal) -> None:
        """There is none."""
        self._client.refuse(refusal, request_id=self._account.refused(refusal), keep_alive=self._keep_alive)

    def _headers(self) -> bytes:
        """How it is served is known only now."""
        return self._entered.headers + self._account.answered(self._entered.target.place, self._serving.cached_tokens)
