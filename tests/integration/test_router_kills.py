"""Replicas killed at random while clients ask for an adapter: nobody without an answer is failed before its deadline.

The checker is that of the end-to-end test (`tests/e2e/test_adapters.py`), which kills processes. Here engines live in
this one, so that a router that does not hold requests can be planted, and is seen.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import time
from collections import Counter
from dataclasses import dataclass, field

import pytest

from libs.common.events.runtime import Replica
from services.router.shell.engines.waiting import Places
from services.router.shell.request.exchange import Exchange
from services.router.shell.request.gateway import Limits
from tests.e2e.streams import Stream, failed_early
from tests.unit.router.engine import Engine
from tests.unit.router.scene import NAME, Scene, a_request, a_scene, chat_body, tokens_in

pytestmark = pytest.mark.chaos

KILLS = 30
REPLICAS = 3
CLIENTS = 6
TELLS_S = 0.02  # How long it takes until the route says what became of a replica.
LOADS_S = 0.05
LIMITS = Limits(connect_s=5, first_byte_s=60, idle_s=60, total_s=120, places=Places(queue_s=60, wake_s=60))


@dataclass
class Fleet:
    """Three engines of which one is killed now and then; the route hears of it late."""

    scene: Scene
    replicas: dict[str, Replica] = field(default_factory=dict)
    listening: dict[str, tuple[asyncio.Server, set[asyncio.StreamWriter]]] = field(default_factory=dict)

    async def start(self, name: str) -> None:
        """A new replica; its adapter comes a little later."""
        engine, writers = Engine(tokens=2, delay_s=0.002), set[asyncio.StreamWriter]()

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writers.add(writer)
            with contextlib.suppress(ConnectionError):
                await engine.handle(reader, writer)
            writers.discard(writer)

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        self.listening[name] = (server, writers)
        port = server.sockets[0].getsockname()[1]
        bare = Replica(name=name, url=f"http://127.0.0.1:{port}")
        for self.replicas[name] in (bare, bare.model_copy(update={"adapters": ("tone",)})):
            self.tell()
            await asyncio.sleep(LOADS_S)

    def tell(self) -> None:
        self.scene.serve(replicas=tuple(self.replicas.values()), adapters=("tone",))

    async def kill(self, name: str) -> None:
        """Break off what it has, and let the route know of it a little later."""
        server, writers = self.listening.pop(name)
        server.close()
        for each in list(writers):
            each.transport.abort()
        await asyncio.sleep(TELLS_S)
        gc.collect()  # A connection that was accepted and not yet introduced is left in a circle, open and mute.
        del self.replicas[name]
        self.tell()

    async def storm(self) -> None:
        """Kill as often as it says, each time whoever it is; all of them at times."""
        chance = random.Random(7)
        for count in range(REPLICAS):
            await self.start(f"pod-{count}")
        for count in range(REPLICAS, REPLICAS + KILLS):
            alive = sorted(self.listening)
            doomed = alive if count % 20 == 0 else [chance.choice(alive)]
            await asyncio.gather(*(self.kill(each) for each in doomed))
            while len(self.listening) < REPLICAS:
                await self.start(f"pod-{count}-{len(self.listening)}")


async def all_of_it(port: int, body: bytes) -> bytes:
    """What a client gets until the connection closes, be it an answer or a part of one."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(a_request(body, headers=b"connection: close\r\n"))
        return await asyncio.wait_for(reader.read(-1), 90)
    finally:
        writer.close()


async def seen_in_a_storm(scene: Scene) -> list[Stream]:
    """What clients saw, each of which asks again as soon as it has its answer."""
    seen: list[Stream] = []
    fleet = Fleet(scene)
    await fleet.start("pod-first")
    storm = asyncio.create_task(fleet.storm())

    async def client() -> None:
        while not storm.done():
            stream = Stream()
            answer = await all_of_it(scene.port, chat_body(model=f"{NAME}/tone", stream=len(seen) % 2 == 0))
            stream.status, stream.tokens, stream.ended_s = int(answer.split()[1]), tokens_in(answer), time.monotonic()
            seen.append(stream)

    await asyncio.gather(*(client() for _ in range(CLIENTS)))
    await storm
    for server, _ in fleet.listening.values():
        server.close()
    return seen


async def test_in_a_storm_of_kills_nobody_is_failed_who_has_no_answer_yet() -> None:
    async with a_scene(limits=LIMITS) as scene:
        seen = await seen_in_a_storm(scene)
        bills = await scene.bills(len(seen))

    print(f"{KILLS} kills: {Counter((each.status, each.tokens) for each in seen)}")
    assert failed_early(seen, deadline_s=60) == []
    assert sum(each.completion_tokens for each in bills) == sum(each.tokens for each in seen)


async def test_a_router_that_does_not_hold_them_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The planted fault."""
    monkeypatch.setattr(Exchange, "replica_went", lambda self, _seat, _since_s: self.engine_failed("planted"))
    async with a_scene(limits=LIMITS) as scene:
        seen = await seen_in_a_storm(scene)

    assert failed_early(seen, deadline_s=60)
