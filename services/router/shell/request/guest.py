"""A request as a guest of the gateway: it comes in, waits for its replica, and goes, whatever happens in between."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

from libs.common.events.tables import KeyEntry
from libs.common.telemetry.logging import fields
from services.router.core import openai
from services.router.core.refusals import HttpRefusal
from services.router.core.serving import Finish, Row, another
from services.router.shell.edge.client import Client
from services.router.shell.engines.target import Seat
from services.router.shell.request import entering
from services.router.shell.request.account import Account
from services.router.shell.request.gateway import Gateway
from services.router.shell.request.phase import ENDING, OVER, WAITING

log = logging.getLogger(__name__)


class Guest:
    """What is the same of every request; what it does with its replica, says the one that inherits."""

    __slots__ = (
        "_account", "_ask", "_client", "_deadline_s", "_entered", "_gateway", "_is_heard",
        "_keep_alive", "_opening", "_phase", "_row", "_sent_before", "_target", "_total_s",
    )  # fmt: skip

    def __init__(
        self, gateway: Gateway, client: Client, *, ask: openai.Ask, key: KeyEntry, account: Account, keep_alive: bool
    ) -> None:
        self._account = account
        self._gateway = gateway
        self._client = client
        self._ask = ask
        self._keep_alive = keep_alive
        self._phase = WAITING
        self._row: Row | None = None  # Its last one, when that is written, or being written.
        self._is_heard = False  # Since the last look at the deadline: cheaper to note than a new one.
        self._entered = entered = entering.enter(gateway, self, key=key, ask=ask, now_s=account.began_s)
        self._target = entered.target
        standing, held, now_ms = entered.standing, entered.held, account.started_ms
        slices = None if held is None else held.names
        self._opening = another(
            standing.kind, request_id=account.request_id, now_ms=now_ms, adapter=ask.adapter or None, slices=slices
        )
        self._sent_before = client.written
        gateway.load.began(self._opening.endpoint_id, now_ms)

    def seated(self, seat: Seat) -> None:
        """Its replica."""
        raise NotImplementedError

    def turned_away(self, refusal: HttpRefusal) -> None:
        """It is not served, and there is nothing to bill: what it held of tokens is free again."""
        entering.settle(self._gateway, self._entered, self._ask, prompt_tokens=0, completion=0)
        self._client.refuse(refusal, request_id=self._account.refused(refusal), keep_alive=self._keep_alive)
        self._end(keep_alive=self._keep_alive)

    def cut(self) -> None:
        """End it."""
        raise NotImplementedError

    def unbilled_tokens(self) -> int:
        """What its client has got and no bill has yet."""
        return 0

    def _stop(self) -> None:
        """Let go of the replica."""
        raise NotImplementedError

    def _bill(self, finish: Finish, then: Callable[[], None]) -> None:
        self._commit(self._interrupted(finish, self._gateway.clock.now_ms(), self._client.sent()), then)

    def _interrupted(self, finish: Finish, now_ms: int, sent: int) -> Row:
        """Its bill if it is cut short now that the socket took everything up to ``sent``."""
        raise NotImplementedError

    def _commit(self, row: Row, then: Callable[[], None]) -> None:
        gateway, self._phase = self._gateway, ENDING
        self._row = row
        entering.settle(
            gateway, self._entered, self._ask, prompt_tokens=row.prompt_tokens, completion=row.completion_tokens
        )
        self._is_heard = True  # Who may be slow to take it has its time anew.
        gateway.journal.finish(row).then(partial(self._committed, then))

    def _committed(self, then: Callable[[], None], error: BaseException | None) -> None:
        """The last row is on disk, or never will be."""
        if error is not None:
            # The row of the last checkpoint stands, and is billed after the next start.
            log.error(
                "usage journal refused a bill", extra=fields(request_id=self._account.request_id, reason=str(error))
            )
            self._client.abort()
            self._end(keep_alive=False)
            return
        self._account.row = self._row
        self._gateway.on_finished()
        then()

    def _wait_at_most(self, wait_s: float) -> None:
        self._deadline_s = self._gateway.now_s() + wait_s
        self._is_heard = False

    def _end(self, *, keep_alive: bool, is_answered: bool = False) -> None:
        """It is over; ``is_answered``: its engine has said all and is given back, and its bill is on disk."""
        if self._phase is OVER:
            return
        self._phase = OVER
        gateway, endpoint_id = self._gateway, self._opening.endpoint_id
        now_ms = gateway.clock.now_ms()
        if not is_answered:
            gateway.waiting.leave(self)
            self._stop()
            if self._account.row is None:
                entering.settle(gateway, self._entered, self._ask, prompt_tokens=None, completion=0)
        gateway.table.leave(self, endpoint_id)
        gateway.load.ended(endpoint_id, now_ms)
        self._account.over(now_ms)
        self._client.over(keep_alive=keep_alive)
