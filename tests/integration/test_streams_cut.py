"""A thousand streams: cut by their clients at random tokens, while routers, broker and ledger are killed at random.

The truth is what clients read to the end of their sockets. The ledger is asked over its API when all is quiet. What it
must say of every stream that a client saw begin (product.md, streaming truth; reliability.md I7, I8):

- complete: exactly what was delivered, once;
- cut: never more than was delivered, and at most a checkpoint less; never nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import httpx
import pytest

from libs.common.bus.port import bucket_put
from libs.common.bus.provision import provision
from libs.common.bus.server import NatsServer
from libs.common.bus.streams import KEYS, message_of
from services.router.core.serving import CHECKPOINT_TOKENS
from tests.integration.test_router_process import publish
from tests.support.nats import nats_server
from tests.support.ports import free_port
from tests.support.web import NO_TLS
from tests.unit.router.engine import Engine, running
from tests.unit.router.heard import cache_warmed, requested
from tests.unit.router.scene import ENDPOINT, KEY, a_request, chat_body, key_entry, tokens_in

__all__ = ["nats_server"]
# A minute alone; a machine that is shared starts a router in half of one. A group is begun before what stands alone.
pytestmark = [pytest.mark.chaos, pytest.mark.timeout(900), pytest.mark.xdist_group("streams-cut")]

STREAMS: Final = 1000
AT_ONCE: Final = 50
TOKENS: Final = (20, 100)
PER_EVENT: Final = 8
KILL_EVERY: Final = (20, 60)  # So many streams ended since the last one.
VICTIMS: Final = ("router", "nats", "router", "metering")
PATIENCE_S: Final = 120.0  # Of a slow machine; what is waited for takes a second or two.


@dataclass(frozen=True, slots=True)
class Seen:
    """What one client read."""

    request_id: str
    tokens: int
    is_complete: bool
    left: bool


@dataclass
class Child:
    """A process of ours that is killed and started again."""

    module: str
    settings: Mapping[str, str]
    log: Path
    arguments: tuple[str, ...] = ()
    process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        env = {**os.environ, **{f"MILLRACE_{name}": value for name, value in self.settings.items()}}
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", self.module, *self.arguments, env=env, stderr=log
            )

    async def kill(self) -> None:
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGKILL)
        await self.process.wait()


@dataclass
class Stage:
    """Router, ledger and broker, with the engine behind them."""

    server: NatsServer
    state: Path
    fault: str = ""
    port: int = field(default_factory=free_port)
    ledger_port: int = field(default_factory=free_port)
    kills: Counter[str] = field(default_factory=Counter)
    ended: int = 0  # Streams that no kill broke: how much was served, however slow the machine is.
    is_over: bool = False

    def __post_init__(self) -> None:
        def of(name: str, **more: str) -> dict[str, str]:
            own = {"NATS_URL": self.server.url, "DATABASE_URL": f"sqlite:///{self.state}/{name}.db"}
            return {**own, "ADMIN_PORT": str(free_port()), **more}

        router = of("router", USAGE_DB=f"{self.state}/usage.db", HTTP_PORT=str(self.port), USAGE_RESEND_S="2")
        ledger = of("metering", HTTP_PORT=str(self.ledger_port))
        fault = (self.fault,) if self.fault else ()
        self.router = Child("tests.support.slow_router", router, self.state / "router.log", fault)
        self.ledger = Child("services.metering", ledger, self.state / "metering.log")

    async def kill(self, victim: str) -> None:
        """Kill it, and start it again at once."""
        self.kills[victim] += 1
        if victim == "nats":
            self.server.kill()
            await asyncio.to_thread(self.server.start)
            return
        child = self.router if victim == "router" else self.ledger
        await child.kill()
        await child.start()
        if victim == "router":
            await answers(self.port)  # Killed before it serves, it would prove nothing.

    async def ledger_lines(self) -> list[dict[str, object]]:
        """All that the ledger has, or nothing while it does not answer."""
        found: list[dict[str, object]] = []
        query: dict[str, str] = {"endpoint": ENDPOINT, "limit": "200"}
        auth = {"authorization": f"Bearer {KEY.plaintext}"}
        async with httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.ledger_port}", headers=auth, verify=NO_TLS
        ) as web:
            while True:
                answer = await web.get("/v1/ledger", params=query)
                answer.raise_for_status()
                page = answer.json()
                found += page["items"]
                if not page["cursor"]:
                    return found
                query["cursor"] = page["cursor"]


async def answers(port: int) -> None:
    """Until somebody listens there."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.1)
            else:
                writer.close()
                return


@contextlib.asynccontextmanager
async def a_stage(server: NatsServer, state: Path, engine_url: str, fault: str = "") -> AsyncIterator[Stage]:
    """All of it, up and serving."""
    await provision(server.url)
    key = key_entry(KEY, scopes=("inference", "read"))
    await publish(
        server,
        bucket_put(bucket=KEYS, key=KEY.key_id, value=key.model_dump_json().encode(), id="key"),
        *map(message_of, (cache_warmed(engine_url), requested())),
    )
    stage = Stage(server, state, fault)
    try:
        await stage.router.start()
        await stage.ledger.start()
        await answers(stage.port)
        yield stage
    finally:
        for child in (stage.router, stage.ledger):
            if child.process is not None:
                await child.kill()


async def a_stream(port: int, *, tokens: int, leaves_after: int | None) -> Seen | None:
    """What one client read up to the end of its socket; None if it saw no answer begin."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except OSError:
        await asyncio.sleep(0.1)
        return None
    seen, left = b"", False
    with contextlib.suppress(ConnectionError):
        writer.write(a_request(chat_body(stream=True, max_tokens=tokens), headers=b"connection: close\r\n"))
        while data := await asyncio.wait_for(reader.read(8192), PATIENCE_S):
            seen += data
            if leaves_after is not None and not left and tokens_in(seen) >= leaves_after:
                left = True
                writer.write_eof()  # It has left; what is under way still arrives, and is counted.
    writer.close()
    request_id = seen.partition(b"x-request-id: ")[2].partition(b"\r\n")[0].decode()
    if not seen.startswith(b"HTTP/1.1 200"):
        return None
    return Seen(request_id, tokens_in(seen), b"data: [DONE]" in seen, left)


async def many_streams(stage: Stage, chance: random.Random, count: int) -> list[Seen]:
    """So many streams that began; each third is to be cut by its client."""
    room = asyncio.Semaphore(AT_ONCE)

    async def one(number: int) -> Seen:
        tokens = chance.randint(*TOKENS)
        leaves_after = chance.randint(1, tokens - 5) if number % 3 == 0 else None
        async with room:
            while (seen := await a_stream(stage.port, tokens=tokens, leaves_after=leaves_after)) is None:
                pass
        stage.ended += seen.is_complete or seen.left
        return seen

    return list(await asyncio.gather(*(one(number) for number in range(count))))


async def killing(stage: Stage, chance: random.Random) -> None:
    """Kill one after the other, until it is over. Never half: whom it killed, it has started again."""
    for victim in itertools.cycle(VICTIMS):
        until = stage.ended + chance.randint(*KILL_EVERY)
        while stage.ended < until:
            if stage.is_over:
                return
            await asyncio.sleep(0.02)
        await asyncio.sleep(chance.uniform(0, 0.5))
        await stage.kill(victim)


async def billed(stage: Stage, seen: Sequence[Seen]) -> dict[str, int]:
    """Completion tokens by request, once every stream that was seen is in the ledger; else what is there by then."""
    found: dict[str, int] = {}
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(PATIENCE_S):
            while not {each.request_id for each in seen} <= found.keys():
                await asyncio.sleep(0.5)
                with contextlib.suppress(httpx.HTTPError):
                    found = bills(await stage.ledger_lines())
    return found


def bills(lines: Sequence[Mapping[str, object]]) -> dict[str, int]:
    """Completion tokens of each request; fails if one is there twice."""
    found: dict[str, int] = {}
    for line in lines:
        if line["meter"] != "completion_tokens":
            continue
        data, quantity = line["data"], line["quantity"]
        assert isinstance(data, dict)
        assert isinstance(quantity, int)
        assert data["request_id"] not in found, f"{data['request_id']} is billed twice"
        found[data["request_id"]] = quantity
    return found


def wrong(seen: Sequence[Seen], bill: Mapping[str, int]) -> list[str]:
    """What the ledger says that is not true."""
    found = []
    for each in seen:
        tokens = bill.get(each.request_id)
        if tokens is None:
            found.append(f"{each}: missing")
        elif each.is_complete and tokens != each.tokens:
            found.append(f"{each}: complete, billed {tokens}")
        elif tokens > each.tokens:
            found.append(f"{each}: billed {tokens}, more than it got")
        elif tokens < each.tokens - CHECKPOINT_TOKENS:
            found.append(f"{each}: billed {tokens}, more than a checkpoint less")
    known = {each.request_id for each in seen}
    unseen = {request_id: tokens for request_id, tokens in bill.items() if request_id not in known}
    found += [f"{request_id}: billed {tokens}, and nobody saw it" for request_id, tokens in unseen.items() if tokens]
    return found


async def run(
    server: NatsServer, state: Path, *, count: int, seed: int, fault: str = ""
) -> tuple[list[Seen], list[str], Stage]:
    """Streams under kills, then quiet; what was seen, what is wrong with the bill, and what was killed."""
    chance = random.Random(seed)
    engine = Engine(tokens=max(TOKENS), delay_s=0.15, per_event=PER_EVENT)
    async with running(engine), a_stage(server, state, engine.url, fault) as stage:
        killer = asyncio.create_task(killing(stage, chance))
        try:
            seen = await many_streams(stage, chance, count)
        finally:
            stage.is_over = True
            await killer
        bill = await billed(stage, seen)
    return seen, wrong(seen, bill), stage


async def test_a_thousand_streams_are_billed_as_delivered_whoever_is_killed(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    seen, mistakes, stage = await run(nats_server, tmp_path, count=STREAMS, seed=6)

    complete = [each for each in seen if each.is_complete]
    left = [each for each in seen if each.left and not each.is_complete]
    broken = [each for each in seen if not each.left and not each.is_complete]
    print(
        f"{len(seen)} streams, {sum(each.tokens for each in seen)} tokens: {len(complete)} complete, {len(left)} left, "
        f"{len(broken)} broken by kills; killed {dict(stage.kills)}; {len(mistakes)} wrong"
    )
    assert mistakes == []
    assert len(seen) == len({each.request_id for each in seen}) == STREAMS
    assert min(len(complete), len(left), len(broken)) > 10
    assert set(stage.kills) == set(VICTIMS)


async def test_a_bill_that_is_committed_with_the_last_piece_is_caught(nats_server: NatsServer, tmp_path: Path) -> None:
    _, mistakes, stage = await run(nats_server, tmp_path, count=300, seed=7, fault="one-behind")

    print(f"planted: {len(mistakes)} wrong after {dict(stage.kills)}, such as {mistakes[:1]}")
    assert any("more than it got" in each for each in mistakes)
