"""A request as a guest of the gateway: it comes in, waits for its replica, and goes, whatever happens in between."""

from __future__ import annotations

from libs.common.events.tables import KeyEntry
from services.router.core import openai
from services.router.core.refusals import HttpRefusal
from services.router.shell import metrics
from services.router.shell.edge.client import Client
from services.router.shell.engines.target import Seat
from services.router.shell.request import entering
from services.router.shell.request.account import Account
from services.router.shell.request.gateway import Gateway
from services.router.shell.request.phase import Phase


class Guest:
    """What is the same of every request; what it does with its replica, says the one that inherits."""

    __slots__ = (
        "_account", "_ask", "_client", "_deadline_s", "_entered", "_gateway", "_is_heard", "_keep_alive", "_lane",
        "_phase", "_target", "_total_s",
    )  # fmt: skip

    def __init__(
        self, gateway: Gateway, client: Client, *, ask: openai.Ask, key: KeyEntry, account: Account, keep_alive: bool
    ) -> None:
        self._account = account
        self._gateway = gateway
        self._client = client
        self._ask = ask
        self._keep_alive = keep_alive
        self._lane = key.key_id
        self._phase = Phase.WAITING
        self._is_heard = False  # Since the last look at the deadline: cheaper to note than a new one.
        self._entered = entering.enter(gateway, self, key=key, ask=ask)
        self._target = self._entered.target
        gateway.load.began(self._target.entry.endpoint_id, account.started_ms)
        metrics.COUNTS.live += 1
        self._total_s = self._deadline_s = gateway.now_s() + gateway.limits.total_s

    def start(self) -> None:
        """Take a place at a replica, or wait for one; `seated` or `turned_away` follows."""
        self._gateway.waiting.enter(self, self._target, ask=self._ask, lane=self._lane)

    def seated(self, seat: Seat) -> None:
        """Its replica."""
        raise NotImplementedError

    def turned_away(self, refusal: HttpRefusal) -> None:
        """It is not served, and there is nothing to bill."""
        self._client.refuse(refusal, request_id=self._account.refused(refusal), keep_alive=self._keep_alive)
        self._end(keep_alive=self._keep_alive)

    def cut(self) -> None:
        """End it."""
        raise NotImplementedError

    def unbilled_tokens(self) -> int:
        """What its client has got and no bill has yet."""
        raise NotImplementedError

    def _stop(self) -> None:
        """Let go of the replica."""
        raise NotImplementedError

    def _settle_limits(self, prompt_tokens: int | None, completion: int) -> None:
        entering.settle(self._gateway, self._entered, self._ask, prompt_tokens=prompt_tokens, completion=completion)

    def _wait_at_most(self, wait_s: float) -> None:
        self._deadline_s = self._gateway.now_s() + wait_s
        self._is_heard = False

    def _end(self, *, keep_alive: bool) -> None:
        if self._phase is Phase.OVER:
            return
        self._phase = Phase.OVER
        gateway, endpoint_id = self._gateway, self._target.entry.endpoint_id
        gateway.waiting.leave(self)
        self._stop()
        if not self._account.is_billed:
            self._settle_limits(None, 0)  # What never came to a bill keeps its prompt.
        gateway.table.leave(self, endpoint_id)
        gateway.load.ended(endpoint_id, gateway.clock.now_ms())
        metrics.COUNTS.live -= 1
        self._account.over()
        self._client.over(keep_alive=keep_alive)
