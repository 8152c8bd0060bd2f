"""What a stream that stands still keeps in memory: thousands of them wait at once."""

from __future__ import annotations

import asyncio
import gc
import socket
import types
from collections.abc import Iterator
from functools import partial

import httptools
import msgspec
import pytest

from libs.common.units import KIB, MIB
from services.router.core.room import UNCOUNTED_BYTES, Room
from services.router.shell.edge import server
from services.router.shell.edge.intake import Intake
from services.router.shell.request.gateway import Limits
from tests.unit.router.engine import Engine, running
from tests.unit.router.scene import KEY, OTHER_KEY, a_request, a_scene, ask, chat_body, read_answer

PATH = "/v1/chat/completions"
PROMPT = "the quick brown fox "
NOT_OURS = (types.ModuleType, type, asyncio.AbstractEventLoop)


async def test_a_stream_that_answers_keeps_neither_its_prompt_nor_what_read_it() -> None:
    async with running(Engine(tokens=2, delay_s=60)) as engine, a_scene(engine.url, limits=Limits()) as scene:
        reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
        writer.write(a_request(chat_body(messages=[{"role": "user", "content": PROMPT * 50}], stream=True)))
        async with asyncio.timeout(30):
            await reader.readuntil(b"data: ")

        (target,) = scene.table.targets()
        kept = list(reachable(*target.running))
        writer.close()

    assert len(kept) > 100
    assert not [each for each in kept if isinstance(each, httptools.HttpRequestParser)]
    assert not [
        each for each in kept if isinstance(each, str | bytes | bytearray | msgspec.Raw) and PROMPT in text(each)
    ]


def test_nothing_that_read_a_request_is_left_for_the_garbage_collector() -> None:
    gc.collect()
    before = readers()
    intake = Intake(lambda _head, _peer: None)
    intake.feed(b"GET /v1/models HTTP/1.1\r\nhost: r\r\n\r\n" * 2)
    assert len(intake.ready) == 2
    assert readers() == before + 1

    del intake

    assert readers() == before


async def test_a_client_that_is_lost_while_it_sends_leaves_nothing_for_the_garbage_collector(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(server, "SWEEP_S", 0.005)
    async with a_scene("http://127.0.0.1:9", limits=Limits()) as scene:
        gc.collect()
        gc.disable()
        try:
            before = readers()
            head = a_request(b"", headers=b"expect: 100-continue\r\n").replace(
                b"content-length: 0", b"content-length: 99"
            )
            for body in (b"", b"{"):
                reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
                writer.write(head)
                await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
                writer.write(body)
                assert readers() == before + 2
                await asyncio.sleep(0.05)  # Its deadline is looked at meanwhile: nor does that remember it.
                writer.close()
                await scene.until(lambda: readers() == before)
        finally:
            gc.enable()


@pytest.mark.parametrize(
    ("path", "key", "body"), [("/nowhere", "", b"{}"), (PATH, "mr_nobody", b"{}"), (PATH, "", b"{")]
)
async def test_a_client_that_is_refused_leaves_nothing_for_the_garbage_collector(
    path: str, key: str, body: bytes
) -> None:
    async with a_scene("http://127.0.0.1:9", limits=Limits()) as scene:
        gc.collect()
        gc.disable()
        try:
            before = readers()
            reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
            writer.write(a_request(body, path=path, key=key or KEY.plaintext))
            await asyncio.wait_for(reader.readuntil(b"}}"), 30)
            writer.close()
            await scene.until(lambda: readers() == before)
        finally:
            gc.enable()


async def test_bodies_that_are_sent_at_once_take_no_more_than_their_room_and_give_it_back() -> None:
    size = 3 * UNCOUNTED_BYTES
    body = chat_body(stream=True, messages=[{"role": "user", "content": "x" * size}])
    gate = asyncio.Event()
    async with running(Engine(gate=gate)) as engine, a_scene(engine.url, limits=Limits()) as scene:
        scene.gateway.room = room = Room(4 * len(body))
        sending = [await asyncio.open_connection("127.0.0.1", scene.port) for _ in range(3)]
        for held, (_, writer) in zip((size, 2 * size, 0), sending, strict=True):
            writer.write(a_request(body)[:-2])
            await scene.until(partial(room_has, room, held))
        refused = await read_answer(sending[2][0])
        assert (refused.status, refused.error["type"]) == (429, "concurrency")  # Two have all that a tenant may have.
        (other,) = await ask(scene.port, a_request(body, key=OTHER_KEY.plaintext))
        assert other.status == 404  # Another tenant's is read.

        sending[1][1].close()
        await scene.until(lambda: room.taken_bytes < 2 * size)
        sending[0][1].write(body[-2:])
        await scene.until(lambda: engine.in_flight == 1)
        assert room.taken_bytes == len(body)
        gate.set()
        assert (await read_answer(sending[0][0])).status == 200
        assert room.taken_bytes == 0


async def test_an_answer_that_comes_whole_has_its_room_until_its_client_took_it() -> None:
    async with (
        running(Engine(tokens=16 * KIB, text="x" * KIB)) as engine,
        a_scene(engine.url, limits=Limits()) as scene,
    ):
        scene.gateway.room = room = Room(64 * MIB)
        near = socket.create_connection(("127.0.0.1", scene.port))
        near.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * KIB)
        reader, writer = await asyncio.open_connection(sock=near)
        writer.write(a_request(chat_body()))
        await scene.until(lambda: len(engine.requests) == 1 and not scene.table.live_total())
        (connection,) = scene.edge._connections
        assert connection.transport.get_write_buffer_size() <= room.taken_bytes < 17 * MIB  # The kernel has the rest.

        assert (await read_answer(reader)).status == 200
        await scene.until(lambda: not room.taken_bytes)

        scene.gateway.room = Room(20 * MIB)
        (answer,) = await ask(scene.port, a_request(chat_body()))
        assert (answer.status, answer.error["type"]) == (429, "concurrency")
        writer.close()


def room_has(room: Room, size_bytes: int) -> bool:
    return room.taken_bytes >= size_bytes


def readers() -> int:
    return sum(isinstance(each, Intake | httptools.HttpRequestParser) for each in gc.get_objects())


def text(of: str | bytes | bytearray | msgspec.Raw) -> str:
    return of if isinstance(of, str) else bytes(memoryview(of)).decode(errors="replace")


def reachable(*roots: object) -> Iterator[object]:
    """Whatever these keep alive; of functions what they close over."""
    known, found = {id(each) for each in roots}, list(roots)
    while found:
        each = found.pop()
        yield each
        for one in referents(each):
            if id(one) not in known and not isinstance(one, NOT_OURS):
                known.add(id(one))
                found.append(one)


def referents(of: object) -> Iterator[object]:
    if isinstance(of, msgspec.Struct):  # Of some the garbage collector knows nothing.
        yield from (getattr(of, name) for name in of.__struct_fields__)
    for each in gc.get_referents(of):
        yield from (each.__closure__ or ()) if isinstance(each, types.FunctionType) else (each,)
