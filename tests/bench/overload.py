"""Goodput under three times the load that can be served: a router process before an engine of fixed capacity."""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Final

import httpx

from libs.common.bus.port import bucket_put
from libs.common.bus.provision import provision
from libs.common.bus.server import NatsServer
from libs.common.bus.streams import KEYS, message_of
from tests.bench.report import Section
from tests.bench.revocation import a_process, wait_for
from tests.integration.test_router_process import publish
from tests.support.nats import a_started_server
from tests.support.ports import free_port
from tests.unit.router.heard import cache_warmed, requested
from tests.unit.router.scene import KEY, a_request, ask, chat_body, key_entry

PLACES: Final = (
    16  # Requests that the engine serves at once, each for SERVICE_S: 160 a second, whatever this machine does.
)
SERVICE_S: Final = 0.1
AT_PEAK: Final = 40
CONNECTIONS: Final = 400
TURN_S: Final = 6.0
TURNS: Final = 3
IN_TIME_S: Final = 2.0  # An answer that comes later is of no use.
REQUEST: Final = a_request(chat_body(max_tokens=5))


@dataclass
class Turn:
    """What one stretch of load came to."""

    lasted_s: float = 0.0
    sent: int = 0
    served_ms: list[float] = field(default_factory=list)
    refused_ms: list[float] = field(default_factory=list)

    @property
    def goodput(self) -> float:
        """Answers in time, a second."""
        return sum(each <= IN_TIME_S * 1000 for each in self.served_ms) / self.lasted_s


class Client(asyncio.Protocol):
    """One connection with one request at a time."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._seen = b""
        self._answer: asyncio.Future[int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._seen += data
        head, found, body = self._seen.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(body) >= length and self._answer is not None:
            answer, self._answer, self._seen = self._answer, None, b""
            answer.set_result(int(head[9:12]))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None:
            self._answer.set_exception(ConnectionError("closed without an answer"))

    async def ask(self) -> int:
        """The status of the answer. Raises ConnectionError if there is none."""
        assert self._transport is not None
        self._answer = asyncio.get_running_loop().create_future()
        self._transport.write(REQUEST)
        return await self._answer


async def one(idle: list[Client], turn: Turn) -> None:
    client = idle.pop(0)
    began_s = time.perf_counter()
    status = await client.ask()
    took_ms = (time.perf_counter() - began_s) * 1000
    (turn.served_ms if status == 200 else turn.refused_ms).append(took_ms)
    idle.append(client)


async def peak(idle: list[Client]) -> Turn:
    """As many at once as the engine and most of the queue hold, one after the other: nobody is refused."""
    turn = Turn()
    end_s = time.perf_counter() + TURN_S

    async def again() -> None:
        while time.perf_counter() < end_s:
            turn.sent += 1
            await one(idle, turn)

    began_s = time.perf_counter()
    await asyncio.gather(*(again() for _ in range(AT_PEAK)))
    turn.lasted_s = time.perf_counter() - began_s
    return turn


async def overload(idle: list[Client], per_s: float) -> Turn:
    """So many a second, whether they are answered or not."""
    turn, asking = Turn(), set[asyncio.Task[None]]()
    began_s = time.perf_counter()
    while (at_s := time.perf_counter() - began_s) < TURN_S:
        while turn.sent < at_s * per_s and idle:
            turn.sent += 1
            task = asyncio.create_task(one(idle, turn))
            asking.add(task)
            task.add_done_callback(asking.discard)
            await asyncio.sleep(0)
        await asyncio.sleep(0.002)
    turn.lasted_s = time.perf_counter() - began_s
    await asyncio.gather(*asking)
    return turn


async def measured(port: int) -> tuple[list[Turn], list[Turn]]:
    """Turns at the peak and at three times of it, one after the other."""
    loop = asyncio.get_running_loop()
    while (await ask(port, REQUEST))[0].status != 200:
        await asyncio.sleep(0.2)
    idle = [(await loop.create_connection(Client, "127.0.0.1", port))[1] for _ in range(CONNECTIONS)]
    peaks, overloads = [], []
    for _ in range(TURNS):
        peaks.append(await peak(idle))
        overloads.append(await overload(idle, 3 * peaks[-1].goodput))
    return peaks, overloads


def measure() -> Section:
    """Goodput and how long a refusal takes."""
    with ExitStack() as opened:
        state = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="mr-bench-")))
        server = a_started_server(state / "nats")
        opened.callback(server.kill)
        engine = opened.enter_context(an_engine())
        asyncio.run(prepared(server, engine))
        port = free_port()
        more = {
            "USAGE_DB": f"{state}/usage.db",
            "HTTP_PORT": str(port),
            "REPLICA_REQUESTS_MAX": str(PLACES),
        }
        opened.enter_context(a_process("router", state, server.url, more))
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as web:
            wait_for(web)
        peaks, overloads = asyncio.run(measured(port))
    base = statistics.median(each.goodput for each in peaks)
    rows = tuple(
        row(name, turns, base) for name, turns in (("at the peak", peaks), ("at three times the peak", overloads))
    )
    return Section(
        title="Overload",
        question="What becomes of goodput at three times the load that can be served, and how long does a refusal take?"
        " Goodput stays above 90 % of the peak; refusals take under 50 ms.",
        columns=("", "offered/s", "in time/s", "of the peak", "served p50 ms", "refused p50 ms", "p99 ms"),
        rows=rows,
        notes=(
            f"One router process; an engine that serves {PLACES} requests at once, each for {SERVICE_S * 1000:.0f} ms;"
            f" {TURNS} turns of {TURN_S:.0f} s each, in turns; a client process on the same machine, whose own delay is"
            " in the figures. The engine is what is overloaded here: the peak is 160/s on any machine.",
        ),
    )


def row(name: str, turns: list[Turn], base: float) -> tuple[str, ...]:
    """One line of the table: medians of the turns, percentiles of all."""
    goodput = statistics.median(each.goodput for each in turns)
    served = [each for turn in turns for each in turn.served_ms]
    refused = [each for turn in turns for each in turn.refused_ms]
    offered = statistics.median(each.sent / each.lasted_s for each in turns)
    ends = ("–", "–")
    if len(refused) > 1:
        p99 = statistics.quantiles(refused, n=100, method="inclusive")[98]
        ends = (f"{statistics.median(refused):.1f}", f"{p99:.1f}")
    share = f"{100 * goodput / base:.0f} %"
    return (name, f"{offered:.0f}", f"{goodput:.0f}", share, f"{statistics.median(served):.0f}", *ends)


async def prepared(server: NatsServer, engine_url: str) -> None:
    """The key and the endpoint, on the bus."""
    await provision(server.url)
    key = bucket_put(bucket=KEYS, key=KEY.key_id, value=key_entry(KEY).model_dump_json().encode(), id="key")
    await publish(server, key, *map(message_of, (cache_warmed(engine_url), requested())))


@contextmanager
def an_engine() -> Iterator[str]:
    """A process that answers ``PLACES`` requests at once."""
    command = [sys.executable, "-m", "tests.bench.slow_engine", str(PLACES), str(SERVICE_S)]
    process = Popen(command, stdout=PIPE, text=True)
    assert process.stdout is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}"
    finally:
        process.terminate()
        process.wait()
