"""What is billed is what clients received: truth is counted at the client's end of the socket."""

from __future__ import annotations

import asyncio
import random
import socket
from pathlib import Path

from services.router.shell.request.gateway import Limits
from tests.unit.router.engine import Engine, running
from tests.unit.router.scene import Scene, a_request, a_scene, chat_body, tokens_in

REQUESTS = 200
AT_ONCE = 24
TOKENS = 40
PATIENT = Limits(connect_s=5, first_byte_s=20, idle_s=20, total_s=60)


async def a_client(scene: Scene, leaves_after: int | None, *, stream: bool = True) -> tuple[bytes, bool]:
    """Everything that one client received until the socket's end, and whether it left early."""
    reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
    writer.write(a_request(chat_body(stream=stream), headers=b"connection: close\r\n"))
    seen = b""
    left = False
    async with asyncio.timeout(30):
        while data := await reader.read(4096):
            seen += data
            if leaves_after is not None and not left and tokens_in(seen) >= leaves_after:
                left = True
                writer.write_eof()  # It has left; what is under way still arrives, and is counted.
    writer.close()
    return seen, left


async def test_two_hundred_requests_of_which_a_third_leave_are_billed_to_the_token(tmp_path: Path) -> None:
    chance = random.Random(7)
    room = asyncio.Semaphore(AT_ONCE)

    async def one(index: int) -> tuple[str, int, bool]:
        leaves_after = chance.randint(1, TOKENS - 5) if index % 3 == 0 else None
        async with room:
            seen, _ = await a_client(scene, leaves_after)
        request_id = seen.partition(b"x-request-id: ")[2].partition(b"\r\n")[0].decode()
        return request_id, tokens_in(seen), b"[DONE]" in seen

    engine_script = Engine(tokens=TOKENS, delay_s=0.004)
    async with (
        running(engine_script) as engine,
        a_scene(engine.url, limits=PATIENT, journal_path=tmp_path / "journal.db") as scene,
    ):
        truth = await asyncio.gather(*(one(index) for index in range(REQUESTS)))
        bills = {each.request_id: each for each in await scene.bills(REQUESTS)}

    received = {request_id: tokens for request_id, tokens, _ in truth}
    billed = {request_id: bill.completion_tokens for request_id, bill in bills.items()}
    assert billed == received
    left = [request_id for request_id, _, is_done in truth if not is_done]
    assert len(left) > REQUESTS // 5
    assert {bills[each].finish for each in left} == {"client_disconnect"}
    assert all(bills[request_id].completion_tokens == TOKENS for request_id, _, is_done in truth if is_done)
    assert engine.produced < REQUESTS * TOKENS  # The engine was told to stop, not left to talk to itself.
    assert all(bill.prompt_tokens == 5 for bill in bills.values())


async def test_a_client_that_resets_its_connection_is_billed_for_no_more_than_was_handed_to_it() -> None:
    async with running(Engine(tokens=500, delay_s=0.005)) as engine, a_scene(engine.url, limits=PATIENT) as scene:
        reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
        writer.write(a_request(chat_body(stream=True)))
        seen = b""
        while tokens_in(seen) < 20:
            seen += await reader.read(1000)
        taken: socket.socket = writer.get_extra_info("socket")
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        writer.transport.abort()

        bill = await scene.bill()

        assert bill.finish == "client_disconnect"
        assert tokens_in(seen) <= bill.completion_tokens <= engine.produced < 500


async def test_a_client_that_leaves_before_the_first_token_owes_none_and_has_its_line() -> None:
    async with running(Engine(first_delay_s=5)) as engine, a_scene(engine.url, limits=PATIENT) as scene:
        for stream in (True, False):
            _, writer = await asyncio.open_connection("127.0.0.1", scene.port)
            writer.write(a_request(chat_body(stream=stream)))
            await asyncio.sleep(0.1)
            writer.write_eof()
            await asyncio.sleep(0.05)
            writer.close()

        bills = await scene.bills(2)

        assert [(each.completion_tokens, each.finish, each.prompt_tokens) for each in bills] == [
            (0, "client_disconnect", None)
        ] * 2


async def test_a_slow_reader_that_leaves_is_billed_for_what_it_read_to_the_end() -> None:
    text = "tok " + "x" * 2000
    async with running(Engine(tokens=3000, text=text)) as engine, a_scene(engine.url, limits=PATIENT) as scene:
        reader, writer = await asyncio.open_connection("127.0.0.1", scene.port, limit=2**14)
        writer.write(a_request(chat_body(stream=True)))
        await asyncio.sleep(0.4)  # Buffers fill up: ours, both sockets'.
        writer.write_eof()
        seen = []
        while data := await asyncio.wait_for(reader.read(65536), 60):
            seen.append(data)
        writer.close()

        bill = await scene.bill()

        assert bill.finish == "client_disconnect"
        assert tokens_in(b"".join(seen)) == bill.completion_tokens < 3000
