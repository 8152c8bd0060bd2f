"""Engines that go while requests are theirs: who has nothing of an answer yet waits for the next one, and is served.

Each is one request in, at most one answer out and one line of the bill, whatever died meanwhile.
"""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import replace

import pytest

from libs.common.events.runtime import Replica
from services.router.core.ejection import FAILURES_MAX
from services.router.core.serving import Row
from services.router.shell.engines.target import Seat
from services.router.shell.engines.upstream import Pool
from services.router.shell.engines.waiting import Places
from services.router.shell.journal.durable import Durable
from services.router.shell.journal.memory import MemoryUsageJournal
from services.router.shell.request.asking import LOSSES_MAX, TRIES_MAX
from services.router.shell.request.gateway import Limits
from tests.unit.router.engine import PROMPT_TOKENS, Engine, running
from tests.unit.router.scene import ENDPOINT, NAME, Answer, Scene, a_request, a_scene, ask, chat_body, tokens_in

PATIENT = Limits(connect_s=5, first_byte_s=60, idle_s=60, total_s=120)
HURRIED = replace(PATIENT, places=Places(queue_s=0.3, wake_s=0.3))
TUNED = f"{NAME}/tone"
PROBES_MAX = 5  # Of a replica that is out: after 2, 4, 8, 16 and 32 s, should this machine be that slow.
CUT_SHORT = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 999\r\n\r\n" + b'{"choices": ['


class CountingJournal(MemoryUsageJournal):
    """Knows how often each request was begun and finished; the first row is on disk when a test says so."""

    def __init__(self) -> None:
        super().__init__("b1")
        self.begun: Counter[str] = Counter()
        self.finished: Counter[str] = Counter()
        self.disk: Durable | None = None

    def begin(self, row: Row) -> None:
        self.begun[row.request_id] += 1
        super().begin(row)

    def on_disk(self) -> Durable:
        return self.disk or super().on_disk()

    def finish(self, row: Row) -> Durable:
        self.finished[row.request_id] += 1
        return super().finish(row)

    def is_exact(self, count: int) -> bool:
        """Whether so many requests were begun, each of them once, and billed once."""
        return len(self.begun) == count and self.begun == self.finished and set(self.begun.values()) == {1}


@asynccontextmanager
async def a_counted_scene(*urls: str, limits: Limits = PATIENT) -> AsyncIterator[tuple[Scene, CountingJournal]]:
    journal = CountingJournal()
    async with a_scene(*urls, limits=limits, journal=journal) as scene:
        yield scene, journal


async def asked(scene: Scene, **more: object) -> Answer:
    (answer,) = await ask(scene.port, a_request(chat_body(**more)))
    return answer


def waiting(scene: Scene) -> int:
    return len(scene.table._targets[ENDPOINT].queue)


@pytest.mark.parametrize("stream", [True, False])
async def test_whose_only_engine_dies_is_served_by_the_next_one(stream: bool) -> None:
    async with (
        running(Engine(refuse_connections=99)) as dead,
        running(Engine()) as engine,
        a_counted_scene(dead.url) as (scene, journal),
    ):
        held = asyncio.create_task(asked(scene, stream=stream))
        await scene.until(lambda: waiting(scene) == 1)

        scene.serve(engine.url)
        answer = await held

        bill = await scene.bill()
        assert (answer.status, tokens_in(answer.body)) == (200, 5)
        assert (bill.prompt_tokens, bill.completion_tokens, bill.finish) == (PROMPT_TOKENS, 5, "stop")
        assert journal.is_exact(1)


async def test_what_an_engine_said_before_it_died_is_forgotten_where_no_client_has_it() -> None:
    gate = asyncio.Event()
    async with (
        running(Engine(raw_answer=CUT_SHORT, gate=gate)) as dying,
        running(Engine()) as engine,
        a_counted_scene(dying.url) as (scene, journal),
    ):
        held = asyncio.create_task(asked(scene))
        await scene.until(lambda: len(dying.requests) == 1)
        scene.serve(engine.url)
        gate.set()

        assert tokens_in((await held).body) == 5
        assert journal.is_exact(1)


async def test_a_stream_that_broke_before_its_first_row_was_on_disk_begins_anew() -> None:
    gate = asyncio.Event()
    async with (
        running(Engine(die_after=2, gate=gate)) as dying,
        running(Engine(tokens=7)) as engine,
        a_counted_scene(dying.url) as (scene, journal),
    ):
        journal.disk = Durable()
        held = asyncio.create_task(asked(scene, stream=True))
        await scene.until(lambda: len(dying.requests) == 1)
        scene.serve(engine.url)
        gate.set()
        await scene.until(lambda: len(engine.requests) == 1)

        journal.disk.settle()

        answer, bill = await held, await scene.bill()
        assert (tokens_in(answer.body), bill.completion_tokens) == (7, 7)
        assert journal.is_exact(1)


async def test_a_stream_of_which_the_client_has_a_part_is_not_begun_anew() -> None:
    async with (
        running(Engine(die_after=2)) as dying,
        running(Engine()) as engine,
        a_counted_scene(dying.url) as (scene, journal),
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
        writer.write(a_request(chat_body(stream=True)))
        seen = await asyncio.wait_for(reader.readuntil(b"tok "), 30)
        scene.serve(engine.url)
        seen += await asyncio.wait_for(reader.read(-1), 30)
        writer.close()

        assert (tokens_in(seen), (await scene.bill()).completion_tokens) == (2, 2)
        assert engine.requests == []
        assert journal.is_exact(1)


async def test_an_adapter_that_every_replica_lost_is_waited_for() -> None:
    async with running(Engine(names=frozenset({"millrace/ngram-1"}))) as engine, a_counted_scene() as (scene, journal):
        tuned = Replica(name="pod-0", url=engine.url, adapters=("tone",))
        scene.serve(replicas=(tuned,), adapters=("tone",))
        held = asyncio.create_task(asked(scene, model=TUNED))
        await scene.until(lambda: waiting(scene) == 1)
        assert (await asked(scene)).status == 200, "others wait behind it"

        engine.names = None
        scene.serve(replicas=(tuned,), adapters=("tone",))

        assert (await held).status == 200
        assert journal.is_exact(2)


async def test_who_comes_when_the_last_replica_went_waits_for_the_next_one() -> None:
    async with running(Engine()) as engine, a_counted_scene(engine.url) as (scene, journal):
        scene.serve()
        held = asyncio.create_task(asked(scene))
        await scene.until(lambda: waiting(scene) == 1)
        assert journal.begun == {}

        scene.serve(engine.url)

        assert (await held).status == 200
        assert journal.is_exact(1)


async def test_an_endpoint_that_never_had_a_replica_keeps_nobody_waiting() -> None:
    async with a_scene(limits=PATIENT) as scene:
        scene.serve()
        assert (await asked(scene)).error["code"] == "no_replica"

        scene.serve("http://127.0.0.1:9")
        scene.serve(paused=True)
        scene.serve()
        assert (await asked(scene)).error["code"] == "no_replica", "a pause is no loss"


async def test_at_its_deadline_each_is_told_and_billed_for_nothing() -> None:
    async with a_counted_scene("http://127.0.0.1:9", limits=HURRIED) as (scene, journal):
        failed = await asked(scene)
        scene.serve()
        refused = await asked(scene)

        bill = await scene.bill()
        assert (failed.status, failed.error["code"]) == (502, "upstream_error")
        assert (refused.status, refused.error["code"]) == (503, "no_replica")
        assert (bill.finish, bill.completion_tokens) == ("upstream_error", 0)
        assert journal.is_exact(1)


@pytest.mark.parametrize("end", ["deleted", "paused", "stopped", "cut", "client left"])
async def test_who_waits_again_is_told_of_the_end_and_billed_once(end: str) -> None:
    async with a_counted_scene("http://127.0.0.1:9") as (scene, journal):
        reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
        writer.write(a_request(chat_body(stream=True)))
        await scene.until(lambda: waiting(scene) == 1)

        match end:
            case "deleted":
                scene.table.change(ENDPOINT, None)
            case "paused":
                scene.serve(paused=True)
            case "stopped":
                scene.gateway.waiting.close()
            case "cut":
                scene.table.cut(ENDPOINT)
            case _:
                writer.close()
        seen = b"" if end == "client left" else await asyncio.wait_for(reader.readuntil(b"\r\n"), 30)
        bill = await scene.bill()
        writer.close()

        assert {"deleted": b"404", "client left": b""}.get(end, b"503") in seen
        assert bill.finish == ("client_disconnect" if end == "client left" else "upstream_error")
        assert (bill.completion_tokens, journal.is_exact(1)) == (0, True)


async def test_a_request_under_which_engines_die_is_not_given_to_all_of_them() -> None:
    """It may be why they die: each that is asked is dead, and the next one comes at once."""
    async with running(Engine(refuse_connections=99)) as dying, a_counted_scene(dying.url) as (scene, journal):
        asking = asyncio.create_task(asked(scene))
        while not asking.done():
            scene.serve()
            scene.serve(dying.url)  # Another replica, of which nothing is known.
            await asyncio.sleep(0.01)

        assert (await asking).status == 502
        assert dying.connections == LOSSES_MAX
        assert journal.is_exact(1)


async def test_an_engine_that_is_gone_is_not_dialled_by_all_who_wait_for_it() -> None:
    count = 20
    async with running(Engine(refuse_connections=999)) as dead, a_counted_scene(dead.url) as (scene, journal):
        held = asyncio.gather(*(asked(scene) for _ in range(count)))
        await scene.until(lambda: waiting(scene) == count)
        await asyncio.sleep(0.6)  # Two looks at who waits.
        dialled = dead.connections

        dead.refuse_connections = 0
        answers = await held

        assert dialled <= TRIES_MAX * count + FAILURES_MAX + PROBES_MAX
        assert [each.status for each in answers] == [200] * count
        assert journal.is_exact(count)


@contextmanager
def slamming() -> Iterator[str]:
    """An engine in the moment in which it dies: each connection is taken, and reset. Its URL."""
    ended = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.2)

        def slam() -> None:
            while not ended.is_set():
                with suppress(TimeoutError), listener.accept()[0] as taken:
                    taken.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        thread = threading.Thread(target=slam)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            ended.set()
            thread.join()


async def test_a_connection_that_its_engine_closed_before_it_was_asked_is_given_to_no_request() -> None:
    """Nobody would hear of its end: a request on it waited for a first byte until its time was over."""
    with slamming() as url:
        pool, seat, closed = Pool(connect_timeout_s=30), Seat(Replica(name="pod-0", url=url)), 0
        for _ in range(100):  # Of two in five, without a look, the end comes first.
            try:
                connection = await pool.dial(seat)
            except OSError:
                continue
            closed += connection.is_closing
            connection.abort()

    assert closed == 0


@pytest.mark.parametrize(
    "unasked",
    [b"HTTP/1.1 200 OK\r\nx: ", b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", b"\r\nHTTP/1.1 200 OK\r\n"],
    ids=["the beginning of a head", "a whole answer", "after a blank line"],
)
async def test_an_engine_that_says_more_than_it_was_asked_is_broken_off_before_the_next_request(unasked: bytes) -> None:
    """What is left of it was read as the beginning of the next client's answer."""
    async with running(Engine(unasked=unasked)) as engine, a_scene(engine.url) as scene:
        (first,) = await ask(scene.port, a_request(chat_body()))
        engine.unasked, tries = b"", engine.connections
        (second,) = await ask(scene.port, a_request(chat_body()))

        assert first.status == 502
        assert second.status == 200
        assert engine.connections == tries + 1
