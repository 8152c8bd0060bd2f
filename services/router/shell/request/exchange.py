"""One request on its way to a model: client on one side, engine on the other, the bill between them.

The order of its steps is that of `core/serving.py`. Everything runs in the event loop, in callbacks; none waits. Here
is what is the same whether the answer is given out when it is `whole`, or `streamed`.
"""

from __future__ import annotations

import logging
from typing import Final

from libs.common.errors import Unavailable
from libs.common.telemetry.logging import fields
from services.router.core import answers, refusals
from services.router.core.refusals import HttpRefusal
from services.router.core.serving import Finish
from services.router.shell.engines.target import Seat
from services.router.shell.request.asking import Asking
from services.router.shell.request.phase import ASKING, ENDED, ENDING, HELD, OVER, WAITING

log = logging.getLogger(__name__)

FLUSH_S: Final = 5.0  # How long a client that left may still take what it was sent.


class Exchange(Asking):
    """One request, from its admission to its bill."""

    __slots__ = ()

    # What drives it: its place, the client, the clock, the control half.

    def seated(self, seat: Seat) -> None:
        """Write the first row, once, then ask the engine."""
        gateway = self._gateway
        if self._phase is WAITING:
            try:
                gateway.journal.begin(self._opening)
            except Unavailable as wrong:
                self._seat, self._has_content = seat, False  # To be given back.
                why = fields(request_id=self._account.request_id, reason=str(wrong))
                log.error("usage journal refused a request", extra=why)
                self.turned_away(refusals.cannot_record())
                return
        self._phase, now_s = ASKING, gateway.now_s()
        self._total_s = self._deadline_s = now_s + gateway.limits.total_s
        self._ask_at(seat, now_s)

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
        elif self._phase is not OVER and self._row is None:
            self._gateway.waiting.leave(self)
            self._phase = ENDING
            self._wait_at_most(FLUSH_S)
            self._stop()

    def client_gone(self) -> None:
        """The socket is closed, and says what it took."""
        if self._phase is not OVER and self._row is None:
            self._bill(Finish.CLIENT_DISCONNECT, lambda: self._end(keep_alive=False))

    def client_paused(self, paused: bool) -> None:
        """The client reads too slowly, or again fast enough."""
        self._wait_at_most(self._gateway.limits.idle_s)
        self._pause(paused)

    def cut(self) -> None:
        """The endpoint goes, or this process: end with a bill for what was delivered."""
        self._end_early(refusals.stopping(), "cut at the drain deadline", Finish.DRAIN_CUT)

    def keys_changed(self) -> None:
        """End it the same way if its own key was taken back."""
        if self._gateway.keyring.is_revoked(self._entered.standing.key):
            self._end_early(refusals.invalid_key(), "its key was revoked", Finish.KEY_REVOKED)

    def _end_early(self, refusal: HttpRefusal, reason: str, finish: Finish) -> None:
        if self._phase is WAITING:
            self.turned_away(refusal)
        else:
            self._cut_short(refusal, reason, finish)

    def sweep(self, now_s: float) -> None:
        """Look at the deadlines; whoever was heard since the last look has its time anew."""
        if self._is_heard:
            self._is_heard, self._deadline_s = False, now_s + self._gateway.limits.idle_s
        if self._phase in (WAITING, HELD, OVER) or now_s < min(self._deadline_s, self._total_s):
            return
        if self._phase is ENDING or self._client.is_paused:
            self._client.abort()
        else:
            self._note_failure()  # To be silent for too long counts against the replica.
            self._cut_short(refusals.upstream_timeout(), "timeout")

    # What the engine says.

    def answer_begins(self) -> None:
        """The engine answers; the client hears of it later."""
        self._wait_at_most(self._gateway.limits.idle_s)

    def engine_refused(self, status: int, body: bytes) -> None:
        """The request is at fault, says the engine; its words go to the client, in our shape."""
        message = answers.error_message(body)
        self._refuse(HttpRefusal(status, message, code=answers.error_code(message)))

    def engine_failed(self, reason: str) -> None:
        """No answer, or none to its end."""
        self._cut_short(refusals.upstream_failed(), reason)

    def replica_went(self, seat: Seat, since_s: float) -> None:
        """Nor is there another now: wait for one, if there is to be one."""
        gateway, target = self._gateway, self._target
        entry = gateway.table.held(target.entry.endpoint_id)
        if entry is None or entry.paused:
            self.engine_failed("its endpoint is no longer served")
            return
        self._phase = HELD
        gateway.waiting.enter_again(
            self, target, ask=self._ask, lane=self._opening.key_id, failed=seat, since_s=since_s
        )

    # Ends from our side.

    def _cut_short(self, refusal: HttpRefusal, reason: str, finish: Finish = Finish.UPSTREAM_ERROR) -> None:
        """End it from our side: with an error status if the client has seen nothing."""
        if self._phase in ENDED:
            return
        self._account.refused(refusal)
        log.warning("request cut short", extra=fields(request_id=self._account.request_id, reason=reason))
        self._break_off(refusal, finish)

    def _break_off(self, refusal: HttpRefusal, finish: Finish) -> None:
        self._refuse(refusal, finish)

    def _refuse(self, refusal: HttpRefusal, finish: Finish = Finish.UPSTREAM_ERROR) -> None:
        self._gateway.waiting.leave(self)
        self._stop()

        def send() -> None:
            self._client.refuse(refusal, request_id=self._account.refused(refusal), keep_alive=self._keep_alive)
            self._end(keep_alive=self._keep_alive)

        # A drain cuts answers: who had nothing of one was refused.
        self._bill(Finish.UPSTREAM_ERROR if finish is Finish.DRAIN_CUT else finish, send)
