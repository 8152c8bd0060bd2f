"""When more comes than this process can serve: who waits is served whole in its turn, who does not is told at once."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import pytest
import uvloop

from libs.common.units import KIB
from services.router.core.pressure import Pressure
from services.router.shell.edge.arrivals import Arrivals, Caller
from services.router.shell.edge.door import LET_IN_MOST
from services.router.shell.edge.entrance import UNREAD_BYTES_MAX
from tests.unit.router.engine import Engine, running
from tests.unit.router.scene import (
    HEALTH,
    Answer,
    Scene,
    a_request,
    a_scene,
    ask,
    chat_body,
    read_answer,
    refused_count,
)

RECEIVED_BYTES = 256 * KIB  # At once, at most, from uvloop and asyncio alike.


class NoTime(Pressure[Caller]):
    """Nobody is served, nor let wait."""

    def __init__(self) -> None:
        super().__init__()
        self.is_crowded = True

    def refuses(self, *, has_room: bool = True) -> bool:
        return True

    def ended(self, now_s: float) -> bool:
        is_left = super().ended(now_s)
        self.is_crowded = True
        return is_left


class Later(NoTime):
    """All who come wait, until the doors are open."""

    is_open = False

    def refuses(self, *, has_room: bool = True) -> bool:
        return False

    def next_served(self, now_s: float) -> Caller | None:
        return super().next_served(now_s) if self.is_open else None


@contextlib.asynccontextmanager
async def a_crowd() -> AsyncIterator[tuple[Scene, Engine, Later]]:
    """A router that serves nobody until its doors are opened."""
    later = Later()
    async with running(Engine()) as engine, a_scene(engine.url) as scene:
        scene.gateway.arrivals._pressure = later
        yield scene, engine, later
        later.is_open = True


@pytest.mark.parametrize("cut", [1, 40, -1])
async def test_a_request_that_waits_is_served_whole_wherever_it_was_cut(cut: int) -> None:
    request = a_request(chat_body())
    async with a_crowd() as (scene, engine, later):
        reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
        writer.write(request[:cut])
        await scene.until(lambda: not scene.gateway.arrivals.is_empty)
        writer.write(request[cut:])
        behind = asyncio.create_task(ask(scene.port, request, HEALTH))
        await scene.until(lambda: len(later._waiting) == 2)
        assert not engine.requests
        later.is_open = True

        first, (second, alive) = await read_answer(reader), await behind
        writer.close()

        assert [each.status for each in (first, second, alive)] == [200] * 3
        assert len(engine.requests) == 2
        assert scene.gateway.arrivals.is_empty


async def test_no_more_is_taken_of_a_large_one_that_waits_than_it_may_keep() -> None:
    body = chat_body(user="x" * 4_000_000)
    async with a_crowd() as (scene, engine, later):
        asked = asyncio.create_task(ask(scene.port, a_request(body)))
        await scene.until(lambda: scene.gateway.arrivals._held_bytes > UNREAD_BYTES_MAX)
        await asyncio.sleep(0.1)  # Time enough to take all of it.
        assert scene.gateway.arrivals._held_bytes <= UNREAD_BYTES_MAX + RECEIVED_BYTES
        later.is_open = True

        (answer,) = await asked

        assert answer.status == 200
        assert len(str(engine.requests[0]["user"])) == 4_000_000
        assert scene.gateway.arrivals._held_bytes == 0


async def test_who_leaves_while_it_waits_is_asked_of_no_engine() -> None:
    async with a_crowd() as (scene, engine, later):
        _reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
        writer.write(a_request(chat_body()))
        await scene.until(lambda: not scene.gateway.arrivals.is_empty)
        writer.transport.abort()
        await scene.until(lambda: not scene.edge._connections)
        later.is_open = True

        await scene.until(lambda: scene.gateway.arrivals.is_empty)
        (alive,) = await ask(scene.port, HEALTH)

        assert alive.status == 200
        assert not engine.requests


async def test_a_router_that_stops_has_a_word_for_those_who_wait() -> None:
    async with a_crowd() as (scene, engine, later):
        asked = asyncio.create_task(ask(scene.port, a_request(chat_body())))
        await scene.until(lambda: not scene.gateway.arrivals.is_empty)
        draining = asyncio.create_task(scene.edge.drain())
        await scene.until(lambda: scene.gateway.is_stopping)
        later.is_open = True

        (answer,) = await asked
        await draining

        assert (answer.status, answer.error["code"]) == (503, "unavailable")
        assert not engine.requests


def test_many_who_connect_to_a_busy_router_at_once_are_let_in_within_a_few_turns() -> None:
    async def turns() -> int:
        async with running(Engine()) as engine, a_scene(engine.url) as scene:
            await scene.until(lambda: scene.gateway.arrivals.let_in.__name__ == "let_in")
            before = len(scene.edge._connections)
            waiting = [socket.create_connection(("127.0.0.1", scene.port)) for _ in range(4 * LET_IN_MOST)]
            count = 0
            while len(scene.edge._connections) < before + len(waiting):
                scene.gateway.arrivals._surely = 0  # As after a turn in which many were served.
                scene.gateway.arrivals.turn()
                await asyncio.sleep(0)
                count += 1
            answers = [await ask(scene.port, HEALTH) for _ in range(3)]
            assert [each.status for (each,) in answers] == [200] * 3
            for each in waiting:
                each.close()
        return count

    assert uvloop.run(turns()) < 4 * 4


class Breaks:
    """One that can not take its turn."""

    unread = b"GET"

    def __init__(self) -> None:
        self.is_aborted = False

    def take_turn(self, *, is_served: bool) -> None:
        raise ValueError("planted")

    def abort(self) -> None:
        self.is_aborted = True


class Notes:
    """One that can."""

    unread = b"GET"

    def __init__(self) -> None:
        self.told: list[bool] = []

    def take_turn(self, *, is_served: bool) -> None:
        self.told.append(is_served)

    def abort(self) -> None:
        """It never is."""


async def test_one_that_fails_in_its_turn_costs_nobody_else_theirs() -> None:
    arrivals, bad, good = Arrivals(asyncio.get_running_loop(), "req-", iter(range(9))), Breaks(), Notes()
    arrivals.wait(bad)
    arrivals.wait(good)

    await asyncio.sleep(0.01)

    assert (bad.is_aborted, good.told) == (True, [True])
    assert arrivals.is_empty


async def test_a_router_with_too_much_to_do_refuses_before_it_reads_and_serves_again() -> None:
    served, stranger = a_request(chat_body()), a_request(chat_body(), headers=b"x-other: 1\r\n")
    async with running(Engine()) as engine, a_scene(engine.url) as scene:
        arrivals = scene.gateway.arrivals
        calm = arrivals._pressure
        reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)

        async def told(request: bytes) -> Answer:
            writer.write(request)
            return await read_answer(reader)

        assert (await told(served)).status == 200
        before = refused_count("overloaded")
        arrivals._pressure = NoTime()
        refused = [await told(each) for each in (served, served, stranger, served)]
        writer.write(stranger[:-1])
        await ask(scene.port, HEALTH)  # The first part was read before that, in a turn that is over.
        refused.append(await told(stranger[-1:]))
        alive = await told(HEALTH)
        arrivals._pressure = calm
        after = await told(served)
        writer.close()

    assert [(each.status, each.error["code"]) for each in refused] == [(503, "overloaded")] * 5
    assert {int(each.headers["retry-after"]) for each in refused} <= {1, 2, 3, 4}
    assert len({refused[place].headers["retry-after"] for place in (0, 1, 3)}) == 3
    assert len({each.headers["x-request-id"] for each in refused}) == 5
    assert (alive.status, after.status) == (200, 200)
    assert refused_count("overloaded") == before + 5
    assert len(engine.requests) == 2


async def test_a_router_with_too_much_to_do_asks_for_no_body() -> None:
    polite = a_request(chat_body(), headers=b"expect: 100-continue\r\n")
    async with running(Engine()) as engine, a_scene(engine.url) as scene:
        scene.gateway.arrivals._pressure = NoTime()
        reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
        writer.write(polite.partition(b"\r\n\r\n")[0] + b"\r\n\r\n")

        refused = await read_answer(reader)
        rest = await reader.read()
        writer.close()

    assert (refused.status, refused.error["code"], rest) == (503, "overloaded", b"")
    assert refused.headers["connection"] == "close"
