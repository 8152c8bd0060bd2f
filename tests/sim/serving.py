"""Requests through the router: its own routes, bill and journal, without sockets. Here is the truth that is billed.

What a client got is known to the client alone: `Truth` is written when bytes reach it, never by a service.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from libs.common.events.event import Owner
from services.router.core.serving import CHECKPOINT_TOKENS, Finish, Serving, admit
from services.router.core.sse import Usage
from tests.sim.customers import PROJECT, TENANT
from tests.sim.hosts import Host, RouterHost

if TYPE_CHECKING:
    from tests.sim.world import Simulation

TOKENS_MAX: Final = 150  # More than two checkpoints.
PIECE_MAX: Final = 24
PROMPT_TOKENS: Final = 7


@dataclass(slots=True)
class Truth:
    """What one client received."""

    endpoint_id: str
    tokens: int = 0
    is_complete: bool = False


class Stream:
    """One request that runs; dies with the router."""

    def __init__(self, serving: Serving, wanted: int) -> None:
        self.serving = serving
        self.wanted = wanted
        self.given = 0

    def cut(self) -> None:
        """The route was withdrawn and its deadline passed."""
        self.wanted = self.given

    def unbilled_tokens(self) -> int:
        """What its client has got."""
        return self.given


class Traffic:
    """Clients of the served endpoints, and the sender of usage."""

    def __init__(self, simulation: Simulation) -> None:
        self._sim = simulation
        self.truth: dict[str, Truth] = {}
        self._count = 0

    def act(self) -> None:
        """A client comes, a stream goes on, or usage is sent."""
        toss = self._sim.chance.random()
        if toss < 0.3:
            self._on_router("admit", self._admit)
        elif toss < 0.8:
            self._on_router("stream", self._stream_one)
        elif toss < 0.9:
            self._on_router("send usage", self._send)
        else:
            self._on_router("tell load", self._tell_load)

    def finish(self) -> bool:
        """At rest: every stream goes on to its end and all usage is sent; True while there was something to do."""
        router = self._router()
        busy = bool(router.requests)
        for _ in range(len(router.requests)):
            self._on_router("stream", self._stream_one)
        if router.journal.backlog():
            self._on_router("send usage", self._send)
        return busy

    def is_served(self) -> bool:
        """Whether a client who comes now would be let in somewhere."""
        routes = self._router().table.of_project(tenant_id=TENANT, project_id=PROJECT)
        return any(each.replicas for each in routes)

    def _router(self) -> RouterHost:
        host = self._sim.hosts[Owner.ROUTER]
        assert isinstance(host, RouterHost)
        return host

    def _on_router(self, what: str, do: object) -> None:
        assert callable(do)

        def run(host: Host) -> object:
            assert isinstance(host, RouterHost)
            return do(host)

        self._sim.on(Owner.ROUTER, what, run)

    def _admit(self, host: RouterHost) -> str:
        routes = sorted(host.table.of_project(tenant_id=TENANT, project_id=PROJECT), key=lambda each: each.endpoint_id)
        if not routes:
            return "nothing is served"
        route = self._sim.chance.choice(routes)
        self._count += 1
        request_id = f"req-{self._count}"
        now_ms = self._sim.clock.now_ms()
        serving = Serving(admit(route, key_id="aaaaaaaaaa", request_id=request_id, api="chat", now_ms=now_ms))
        stream = Stream(serving, self._sim.chance.randint(1, TOKENS_MAX))
        if host.table.enter(stream, tenant_id=TENANT, project_id=PROJECT, name=route.name) is None:
            return "withdrawn"
        host.requests[request_id] = stream
        host.load.began(route.endpoint_id, now_ms)
        host.journal.begin(serving.opening)
        self.truth[request_id] = Truth(route.endpoint_id)
        self._sim.crash_maybe(self._sim.faults.crash_at_commit, "after begin")
        return request_id

    def _stream_one(self, host: RouterHost) -> str:
        if not host.requests:
            return "no streams"
        request_id = self._sim.chance.choice(sorted(host.requests))
        stream = host.requests[request_id]
        assert isinstance(stream, Stream)
        if self._sim.happens(0.15):
            return self._end(host, request_id, stream, Finish.CLIENT_DISCONNECT)
        if stream.given < stream.wanted:
            self._give(host, request_id, stream)
            return f"{request_id} {stream.given}"
        return self._end(host, request_id, stream, None)

    def _give(self, host: RouterHost, request_id: str, stream: Stream) -> None:
        now_ms = self._sim.clock.now_ms()
        pieces = min(self._sim.chance.randint(1, PIECE_MAX), stream.wanted - stream.given)
        for _ in range(pieces):
            stream.given += 1
            stream.serving.relayed(
                stream.given, pieces=1, running=stream.given, prompt_tokens=PROMPT_TOKENS, now_ms=now_ms
            )
            self.truth[request_id].tokens += 1  # The bytes are with the client.
            checkpoint = stream.serving.sent(stream.given, now_ms)
            self._sim.crash_maybe(self._sim.faults.crash_at_commit / 10, "after bytes, before checkpoint")
            if checkpoint is not None:
                host.journal.checkpoint(checkpoint)

    def _end(self, host: RouterHost, request_id: str, stream: Stream, cut_by: Finish | None) -> str:
        now_ms = self._sim.clock.now_ms()
        if cut_by is None:
            stream.serving.final(Usage(PROMPT_TOKENS, stream.given))
            host.journal.finish(stream.serving.completed(now_ms))
            self._sim.crash_maybe(self._sim.faults.crash_at_commit, "after the bill, before the terminal frame")
            self.truth[request_id].is_complete = True
        else:
            host.journal.finish(stream.serving.interrupted(cut_by, now_ms))
        host.load.ended(stream.serving.opening.endpoint_id, now_ms)
        host.table.leave(stream, stream.serving.opening.endpoint_id)
        del host.requests[request_id]
        return f"{request_id} ended {cut_by}"

    def _tell_load(self, host: RouterHost) -> int:
        report = host.reporter.next_report()
        return self._sim.publish([report]) if report else 0

    def _send(self, host: RouterHost) -> int:
        return host.sender.run(self._sim.publish)


def under_by(truth: Truth) -> int:
    """How many tokens an interrupted answer may be billed below what was delivered: one checkpoint."""
    return 0 if truth.is_complete else CHECKPOINT_TOKENS
