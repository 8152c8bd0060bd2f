"""The bill of one request, from admission to its last line: what it holds at every moment, whatever happens next.

Protocol. The caller owns sockets and journal; this owns the order (reliability.md L21) that loses and invents nothing:

 1. ``opening()`` is committed with `journal.begin` before the engine is asked.
 2. Per piece of content: hand the bytes to the socket, then ``relayed(end, …)`` with the offset at which they end.
 3. Whenever the socket has taken bytes up to an offset: ``sent(offset, now_ms)``. If it returns a record, commit that
    with `journal.checkpoint`: always after the bytes, so that a crash bills what was delivered or a little less.
 4. The engine's last word: ``final(…)``. When all content is sent: commit ``completed(now_ms)`` with
    `journal.finish`, and only when that is durable send the terminal frame (final usage and [DONE]), or, where the
    answer is not streamed, the answer.
 5. Or it is cut short: ``sent`` for what did leave, then commit ``interrupted(finish, now_ms)`` with `journal.finish`.
    Policy `delivered`: what the client was sent is what it owes; never free, never more.

Exactly one of `completed` and `interrupted` is called, once. If neither comes (SIGKILL), the journal's row of step 1
or 3 is the bill: it says `router_crash` from the beginning. Offsets may be bytes or anything else that grows.
It is a mutable object, unlike our records: this is touched for every token.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final

import msgspec

from libs.common.events.tables import KeyEntry, RouteEntry
from libs.common.units import SECOND_MS

CHECKPOINT_TOKENS: Final = 64  # What a crash may leave unbilled, at most, of one request.
DUE_TOKENS: Final = 48  # When the next is due; the rest is for what is delivered while it is being written.
CHECKPOINT_MS: Final = 1 * SECOND_MS


class Finish(StrEnum):
    """How a request ended."""

    STOP = "stop"
    LENGTH = "length"
    CLIENT_DISCONNECT = "client_disconnect"
    UPSTREAM_ERROR = "upstream_error"
    ROUTER_CRASH = "router_crash"
    DRAIN_CUT = "drain_cut"  # Its endpoint or its replica went, and it still ran at the drain deadline.


class TokenSource(StrEnum):
    """Whose count it is: the engine's final or running one, or our own count of the pieces."""

    ENGINE_FINAL = "engine_final"
    ENGINE_RUNNING = "engine_running"
    CHECKPOINT = "checkpoint"


class Admitted(msgspec.Struct, frozen=True):
    """Who asked what of which endpoint: the part of the bill that is known from the first moment."""

    request_id: str
    tenant_id: str
    project_id: str
    endpoint_id: str
    generation: int
    model: str
    tier: str
    region: str
    key_id: str
    api: str
    started_ms: int
    adapter: str | None = None
    slices: tuple[str, ...] | None = None


def admit(
    entry: RouteEntry,
    key: KeyEntry,
    *,
    request_id: str,
    api: str,
    now_ms: int,
    adapter: str | None = None,
    slices: tuple[str, ...] | None = None,
) -> Admitted:
    """A request of ``key`` for the endpoint behind ``entry``, served from these ``slices`` of budgets."""
    return Admitted(
        request_id, entry.tenant_id, entry.project_id, entry.endpoint_id, entry.generation, entry.model, entry.tier,
        entry.region, key.key_id, api, now_ms, adapter, slices,
    )  # fmt: skip


class Row(msgspec.Struct, frozen=True):
    """A line of the journal: field for field what is reported as `RequestUsage`, at a fifth of its cost to make."""

    request_id: str
    tenant_id: str
    project_id: str
    endpoint_id: str
    generation: int
    model: str
    tier: str
    region: str
    key_id: str
    api: str
    prompt_tokens: int | None
    completion_tokens: int
    token_source: str
    finish: str
    started_ms: int
    first_token_ms: int | None
    ended_ms: int
    cached_prompt_tokens: int | None = None
    reasoning_tokens: int | None = None
    egress_bytes: int | None = None
    adapter: str | None = None
    slices: tuple[str, ...] | None = None


class Serving:
    """One request as the bill sees it."""

    __slots__ = (
        "_checkpoint_ms", "_checkpointed", "_counted_by_engine", "_delivered", "_end", "_end_tokens", "_final",
        "_finish", "_first_token_ms", "_marks", "_over", "_prompt_tokens", "_reasoning", "_relayed", "_taken",
        "admitted", "cached_tokens",
    )  # fmt: skip

    def __init__(self, admitted: Admitted) -> None:
        self.admitted = admitted
        self._marks: list[tuple[int, int]] = []  # Where content ended that was not taken, and its tokens;
        self._end = self._end_tokens = 0  # and the newest.
        self._taken = 0  # The offset that the socket has taken.
        self._relayed = 0
        self._delivered = 0
        self._checkpointed = 0
        self._checkpoint_ms = admitted.started_ms
        self._prompt_tokens: int | None = None
        self.cached_tokens: int | None = None  # Of the prompt, what the engine had read before.
        self._first_token_ms: int | None = None
        self._reasoning: int | None = None
        self._counted_by_engine = False
        self._final: int | None = None
        self._finish = Finish.STOP
        self._over = False

    @property
    def delivered(self) -> int:
        """Completion tokens that the socket took."""
        return self._delivered

    @property
    def first_token_ms(self) -> int | None:
        """When the first content was handed to the socket."""
        return self._first_token_ms

    @property
    def has_final(self) -> bool:
        """Whether the engine's last word came."""
        return self._final is not None

    def opening(self) -> Row:
        """The row that stands if we die before the first checkpoint."""
        return self._record(0, TokenSource.CHECKPOINT, Finish.ROUTER_CRASH, self.admitted.started_ms)

    def relayed(self, end: int, *, pieces: int, running: int | None, prompt_tokens: int | None, now_ms: int) -> None:
        """Content that ends at offset ``end`` was handed to the socket.

        ``running`` is the engine's count up to here where it gives one; else every piece counts as one token.
        """
        if prompt_tokens is not None:
            self._prompt_tokens = prompt_tokens
        if running is None:
            self._relayed += pieces
        else:
            self._counted_by_engine = True
            if running > self._relayed:
                self._relayed = running
        if self._relayed and self._first_token_ms is None:
            self._first_token_ms = now_ms
        if self._end > self._taken:
            self._marks.append((self._end, self._end_tokens))  # The client does not keep up.
        self._end, self._end_tokens = end, self._relayed

    def sent(self, offset: int, now_ms: int) -> Row | None:
        """The socket took everything up to ``offset``. Returns the checkpoint to commit if one is due."""
        self._taken, marks = offset, self._marks
        if self._end <= offset:
            self._delivered = self._end_tokens
            if marks:
                marks.clear()
        else:
            taken = 0
            while taken < len(marks) and marks[taken][0] <= offset:
                self._delivered = marks[taken][1]
                taken += 1
            del marks[:taken]
        fresh = self._delivered - self._checkpointed
        if fresh < DUE_TOKENS and not (fresh and now_ms - self._checkpoint_ms >= CHECKPOINT_MS):
            return None
        self._checkpointed, self._checkpoint_ms = self._delivered, now_ms
        return self._record(self._delivered, self._running_source(), Finish.ROUTER_CRASH, now_ms)

    def finish_reason(self, reason: str) -> None:
        """Why the engine stopped generating."""
        self._finish = Finish.LENGTH if reason == "length" else Finish.STOP

    def final(
        self,
        *,
        prompt_tokens: int | None,
        completion_tokens: int | None,
        cached: int | None = None,
        reasoning: int | None = None,
    ) -> None:
        """The engine's last word; without a count of its own, what was relayed is what there is.

        ``cached`` is how much of the prompt needed no work, ``reasoning`` how much of the completion was thought.
        """
        if prompt_tokens is not None:
            self._prompt_tokens = prompt_tokens
        if cached is not None:
            self.cached_tokens = cached
        self._final, self._reasoning = completion_tokens, reasoning

    def completed(self, now_ms: int, *, egress_bytes: int | None = None) -> Row:
        """The bill of a whole answer; commit it before the terminal frame."""
        assert not self._over, f"{self.admitted.request_id} was billed already"
        self._over = True
        if self._final is not None:
            if self._first_token_ms is None and self._final:
                self._first_token_ms = now_ms
            return self._record(self._final, TokenSource.ENGINE_FINAL, self._finish, now_ms, egress_bytes)
        assert self._end <= self._taken, "an answer is complete only when all of it was sent"
        return self._record(self._delivered, self._running_source(), self._finish, now_ms, egress_bytes)

    def interrupted(self, finish: Finish, now_ms: int, *, egress_bytes: int | None = None) -> Row:
        """The bill of an answer that was cut short: what was delivered."""
        assert not self._over, f"{self.admitted.request_id} was billed already"
        self._over = True
        return self._record(self._delivered, self._running_source(), finish, now_ms, egress_bytes)

    def _running_source(self) -> TokenSource:
        return TokenSource.ENGINE_RUNNING if self._counted_by_engine else TokenSource.CHECKPOINT

    def _record(
        self, tokens: int, source: TokenSource, finish: Finish, ended_ms: int, egress_bytes: int | None = None
    ) -> Row:
        of, started_ms = self.admitted, self.admitted.started_ms
        return Row(
            of.request_id, of.tenant_id, of.project_id, of.endpoint_id, of.generation, of.model, of.tier, of.region,
            of.key_id, of.api, self._prompt_tokens, tokens, source, finish, started_ms, self._first_token_ms,
            ended_ms if ended_ms > started_ms else started_ms, self.cached_tokens,
            # Of an answer that was cut short nobody says how much of what was delivered was thought.
            self._reasoning if source is TokenSource.ENGINE_FINAL else None, egress_bytes, of.adapter, of.slices,
        )  # fmt: skip
