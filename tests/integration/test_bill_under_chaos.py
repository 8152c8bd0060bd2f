"""The bill, with the truth held by clients, while everything dies: not a token, not a GPU-millisecond is off.

Router, metering and broker are killed at random (SIGKILL), the broker's disk is lost, batches come twice, and a day's
old usage comes late. In the end everything that was ever told is told again, twice, and adds nothing. The control runs
the same with a router that trusts the broker's ack, and must be seen to lose: so this test can fail.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import pytest

from libs.common.bus.port import Message
from libs.common.bus.server import NatsServer
from libs.common.bus.streams import message_of
from libs.common.clock import SystemClock
from libs.common.events.envelope import Envelope, from_wire
from libs.common.events.route import UsageReported
from libs.common.ids import EventId
from libs.common.units import DAY_MS
from services.router.core.serving import CHECKPOINT_TOKENS, Row
from tests.e2e.listeners import Heard, Hush, Listener, Manner, Plan
from tests.integration.metered import Scene, put, until
from tests.support.nats import nats_server
from tests.unit.router.engine import Engine, running
from tests.unit.router.scene import ENDPOINT, KEY, NAME, PROJECT, TENANT

__all__ = ["nats_server"]

CLIENTS: Final = 6
LATE_ROWS: Final = 25  # At each death of the router, as far as it was asked for.
ACTS: Final = ("router", "metering", "broker", "wipe", "nodes", "twice", "late", "router", "metering")
ROUNDS: Final = 2  # Of all acts, in a new order each.
RETRY_S: Final = 0.05


@dataclass
class Truth:
    """What clients got, counted by them; and what a router of yesterday gave them."""

    heard: list[Heard] = field(default_factory=list)
    late: dict[str, int] = field(default_factory=dict)
    stopping: bool = False

    @property
    def answered(self) -> dict[str, Heard]:
        """By request id, those who got an answer that is one."""
        return {each.request_id: each for each in self.heard if each.received.startswith(b"HTTP/1.1 200")}


def a_plan(chance: random.Random) -> Plan:
    """What a client does next: most listen to the end, some leave."""
    limit = chance.randint(5, 120)
    manner = chance.choices((Manner.STREAMS, Manner.WAITS, Manner.LEAVES), (6, 1, 2))[0]
    return Plan(manner, is_chat=chance.random() < 0.7, max_tokens=limit, leaves_after=chance.randint(1, limit - 2))


async def a_client(scene: Scene, truth: Truth, seed: int) -> None:
    """Asks again and again, whoever dies."""
    chance = random.Random(seed)
    listener = Listener(port=scene.port, key=KEY.plaintext, model=NAME, hush=Hush(0))
    while not truth.stopping:
        with contextlib.suppress(OSError):
            truth.heard.append(await listener.ask(a_plan(chance)))
        await asyncio.sleep(RETRY_S)


@contextlib.asynccontextmanager
async def served(scene: Scene) -> AsyncIterator[Truth]:
    """Clients for as long as it takes."""
    truth = Truth()
    engine = Engine(tokens=1000, delay_s=0.004)
    async with running(engine):
        try:
            await scene.start(engine.url)
            clients = [asyncio.create_task(a_client(scene, truth, seed)) for seed in range(CLIENTS)]
            yield truth
            await asyncio.gather(*clients)
        finally:
            truth.stopping = True
            await scene.stop()


async def act(scene: Scene, truth: Truth, what: str, number: int, chance: random.Random) -> None:
    """One misfortune, and the repair that follows it."""
    match what:
        case "router":
            await scene.router.kill()
        case "metering":
            await scene.metering.kill()
        case "broker":
            await asyncio.to_thread(scene.kill_broker)
        case "wipe":
            await lose_what_is_under_way(scene)
        case "nodes":
            scene.provider.take_back()
            scene.provider.lend()
        case "twice":
            for place, batch in enumerate(chance.sample(scene.batches, min(20, len(scene.batches)))):
                await scene.repeat(batch, 100 * number + place)
        case "late":
            await scene.router.kill()
            rows = [a_late_row(number * LATE_ROWS + each) for each in range(LATE_ROWS)]
            truth.late |= {each.request_id: each.completion_tokens for each in rows}
            await asyncio.to_thread(scene.journal_late, rows)
    await asyncio.sleep(chance.random() * 0.5)
    await scene.up()


async def lose_what_is_under_way(scene: Scene) -> None:
    """While metering is dead the broker takes usage, says that it has it, and loses it with its disk."""
    await scene.metering.kill()
    before = len(scene.batches)
    await until(lambda: len(scene.batches) > before + 3, "no usage came to the broker")
    await scene.wipe_broker()


def a_late_row(number: int) -> Row:
    """A request of a day ago."""
    ended_ms = SystemClock().now_ms() - DAY_MS + number
    return Row(
        request_id=f"yesterday-{number}", tenant_id=TENANT, project_id=PROJECT, endpoint_id=ENDPOINT, generation=1,
        model="millrace/ngram-1", tier="l40s-dedicated", region="eu-1", key_id=KEY.key_id, api="chat",
        prompt_tokens=5, completion_tokens=1 + number % 50, token_source="engine_final", finish="stop",
        started_ms=ended_ms - 1000, first_token_ms=None, ended_ms=ended_ms,
    )  # fmt: skip


def billed(scene: Scene) -> dict[str, int]:
    """Completion tokens of each request in the ledger; fails if one is there twice."""
    found: dict[str, int] = {}
    for each in scene.lines():
        if each.meter == "completion_tokens":
            request_id = each.id.split("/")[1]
            assert request_id not in found, f"{request_id} is in the ledger twice"
            found[request_id] = each.quantity
    return found


async def come_to_rest(scene: Scene, truth: Truth) -> None:
    """No more deaths: everybody finishes, every node is given back, everything is told."""
    truth.stopping = True
    await scene.up()
    while scene.provider.lent:
        scene.provider.take_back()
    await scene.up()

    async def is_idle() -> bool:
        return await scene.backlog() == 0 and await scene.is_caught_up()

    await until(is_idle, "usage does not come to the ledger")
    await until(lambda: scene.differences() == [], f"the audit finds {scene.differences()[:3]}")


@pytest.mark.chaos
@pytest.mark.xdist_group("metered")
async def test_the_ledger_is_the_truth_that_clients_hold_whoever_dies(nats_server: NatsServer, tmp_path: Path) -> None:
    scene, chance = Scene(nats_server, tmp_path), random.Random(7)
    async with served(scene) as truth:
        await until(lambda: len(truth.answered) > 2 * CLIENTS, "nobody is served")
        for number in range(ROUNDS):
            for place, what in enumerate(chance.sample(ACTS, len(ACTS))):
                await act(scene, truth, what, 1 + number * len(ACTS) + place, chance)
        await come_to_rest(scene, truth)

        tokens_are_those_that_clients_got(truth, billed(scene))
        sums = scene.sums()
        assert (sums["gpu_ms"], sums["node_ms"]) == (scene.provider.gpu_ms, scene.provider.node_ms)
        assert sums["requests"] == len(billed(scene))
        assert (scene.router.deaths, scene.metering.deaths, scene.wipes) == (3 * ROUNDS, 3 * ROUNDS, ROUNDS)
        print(f"{len(truth.heard)} requests heard, {sums['completion_tokens']} tokens, {sums['gpu_ms']} GPU ms")

        before = (scene.lines(), scene.revisions())
        await tell_everything_again(scene)
        assert (scene.lines(), scene.revisions()) == before
        assert scene.differences() == []


def tokens_are_those_that_clients_got(truth: Truth, ledger: dict[str, int]) -> None:
    """Complete answers to the token; cut ones never too much, and at most a checkpoint too little."""
    answered = truth.answered
    complete = {request_id: each.tokens for request_id, each in answered.items() if each.is_complete}
    cut = {request_id: each for request_id, each in answered.items() if not each.is_complete}
    assert len(complete) > 2 * CLIENTS
    assert {each: ledger.get(each) for each in complete} == complete
    assert {each: ledger.get(each) for each in truth.late} == truth.late
    assert [each for each in cut if not is_near(cut[each], ledger[each])] == []
    others = {request_id: tokens for request_id, tokens in ledger.items() if request_id not in {*answered, *truth.late}}
    assert set(others.values()) <= {0}, "somebody pays for an answer that nobody got"


def is_near(heard: Heard, tokens: int) -> bool:
    """A client that left, and one whose router died, got what it pays for, or up to a checkpoint more."""
    return max(0, heard.tokens - CHECKPOINT_TOKENS) <= tokens <= heard.tokens


async def tell_everything_again(scene: Scene) -> None:
    """Every batch and every event that there ever was: as it was, and once more under names that nobody has seen."""
    publish = scene.client.jetstream(timeout=60).publish
    for number, message in enumerate((*scene.batches, *scene.provider.told)):
        await put(publish, replace(message, id=f"replayed-{number}"))
        await put(publish, disguised(message, number))
    await until(scene.is_caught_up, "metering does not handle the replay")
    await until(lambda: scene.differences() == [], f"after the replay the audit finds {scene.differences()[:3]}")


def disguised(message: Message, number: int) -> Message:
    """The same content as another event; of a batch, as that of another boot."""
    envelope = from_wire(message.headers, message.body)
    data = envelope.data
    if isinstance(data, UsageReported):
        data = data.model_copy(update={"boot_id": "a-replay", "boot_seq": number + 1})
    fresh: Envelope = replace(envelope, id=EventId(f"disguised-{number}"), data=data)
    return message_of(fresh)


@pytest.mark.chaos
@pytest.mark.xdist_group("metered")
async def test_the_control_that_trusts_the_ack_of_the_broker_is_seen_to_lose(
    nats_server: NatsServer, tmp_path: Path
) -> None:
    scene = Scene(nats_server, tmp_path, router="tests.integration.trusting_router")
    async with served(scene) as truth:
        await until(lambda: len(truth.answered) > 2 * CLIENTS, "nobody is served")
        await act(scene, truth, "wipe", 1, random.Random(1))
        await come_to_rest(scene, truth)

        ledger = billed(scene)

    lost = [each for each, heard in truth.answered.items() if heard.is_complete and each not in ledger]
    print(f"the control lost {len(lost)} of {len(truth.answered)} requests")
    assert lost, "the control lost nothing: what the other test shows could not fail"
