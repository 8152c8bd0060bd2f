"""Requests that wait, over real sockets: for a busy replica, for one that sleeps, in turn, or not at all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

import pytest

from libs.common.errors import Unavailable
from libs.common.events.endpoint import Limits as EndpointLimits
from libs.common.events.runtime import Replica
from services.router.core.ejection import FAILURES_MAX
from services.router.core.limits import MinuteLimits
from services.router.core.serving import Row
from services.router.shell.engines.waiting import Places
from services.router.shell.journal.memory import MemoryUsageJournal
from services.router.shell.request.gateway import Limits
from tests.unit.router.engine import Engine, running
from tests.unit.router.scene import ENDPOINT, NAME, Answer, Scene, a_request, a_scene, ask, chat_body, tokens_in

PATIENT = Limits(connect_s=5, first_byte_s=30, idle_s=30, total_s=60)
NARROW = replace(PATIENT, places=Places(outstanding_max=2, queue_s=30))

TRIALS_MAX = 5  # After 2, 4, 8, 16 and 32 s, should this machine be that slow.


async def until(holds: Callable[[], bool], within_s: float = 30) -> None:
    async with asyncio.timeout(within_s):
        while not holds():
            await asyncio.sleep(0.01)


async def many(scene: Scene, count: int, **more: object) -> list[Answer]:
    found = await asyncio.gather(*(ask(scene.port, a_request(chat_body(**more))) for _ in range(count)))
    return [answer for (answer,) in found]


def waiting(scene: Scene) -> int:
    target = scene.table._targets[ENDPOINT]
    return len(target.queue)


async def test_a_replica_never_has_more_to_do_than_it_may_and_who_waits_is_served() -> None:
    async with running(Engine(first_delay_s=0.02)) as engine, a_scene(engine.url, limits=NARROW) as scene:
        found = await many(scene, 12)

    assert [each.status for each in found] == [200] * 12
    assert engine.in_flight_max == 2


async def test_when_the_queue_is_full_a_request_is_refused_at_once_and_told_when_to_come_back() -> None:
    async with running(Engine(gate=asyncio.Event())) as engine, a_scene(engine.url, limits=NARROW) as scene:
        held = asyncio.create_task(many(scene, 2 + 16))
        await until(lambda: waiting(scene) == 16)

        (refused,) = await ask(scene.port, a_request(chat_body()))
        held.cancel()

        assert refused.status == 503
        assert refused.error["code"] == "overloaded"
        assert int(refused.headers["retry-after"]) >= 1


async def test_an_endpoint_that_sleeps_is_woken_once_and_serves_all_who_wait() -> None:
    woken: list[None] = []
    async with running(Engine()) as engine, a_scene(limits=PATIENT) as scene:
        scene.gateway.waiting.on_asleep = lambda: woken.append(None)
        scene.serve(wakes=True)
        held = asyncio.create_task(many(scene, 20))
        await until(lambda: waiting(scene) == 20)

        scene.serve(engine.url, wakes=True)
        found = await held

    assert [each.status for each in found] == [200] * 20
    assert len(woken) == 1
    assert all(tokens_in(each.body) == 5 for each in found)


async def test_who_comes_while_the_only_replica_is_replaced_waits_and_none_is_refused() -> None:
    async with running(Engine()) as engine, a_scene(limits=PATIENT) as scene:
        scene.serve(replacing=True)
        held = asyncio.create_task(many(scene, 20))
        await until(lambda: waiting(scene) == 20)

        scene.serve(engine.url)
        found = await held

    assert [each.status for each in found] == [200] * 20


async def test_a_request_for_an_adapter_waits_until_a_replica_has_it_and_lets_the_others_by() -> None:
    async with running(Engine()) as engine, a_scene(limits=PATIENT) as scene:
        bare = Replica(name="pod-0", url=engine.url)
        scene.serve(replicas=(bare,), adapters=("tone",), tenancy="vnode")
        held = asyncio.create_task(ask(scene.port, a_request(chat_body(model=f"{NAME}/tone"))))
        await until(lambda: waiting(scene) == 1)

        (plain,) = await ask(scene.port, a_request(chat_body()))
        assert (plain.status, waiting(scene)) == (200, 1)
        tuned_one = bare.model_copy(update={"adapters": ("tone",)})
        scene.serve(replicas=(tuned_one,), adapters=("tone",), tenancy="vnode")
        (tuned,) = await held
        bills = await scene.bills(2)

    assert tuned.status == 200
    assert [(each.adapter, each.tenancy) for each in bills] == [("tone", "vnode"), (None, "vnode")]
    assert [each["model"] for each in engine.requests] == ["millrace/ngram-1", "tone"]


async def test_an_engine_that_lost_its_adapters_is_passed_over_and_its_not_found_reaches_nobody() -> None:
    lost = Engine(status=404, error_body=b'{"error":{"message":"The model `tone` does not exist.","code":404}}')
    async with running(lost) as restarted, running(Engine()) as engine, a_scene(limits=PATIENT) as scene:
        both = tuple(
            Replica(name=f"pod-{place}", url=each.url, adapters=("tone",))
            for place, each in enumerate((restarted, engine))
        )
        scene.serve(replicas=both, adapters=("tone",))
        found = [(await ask(scene.port, a_request(chat_body(model=f"{NAME}/tone"))))[0] for _ in range(12)]

    assert [each.status for each in found] == [200] * 12
    assert len(restarted.requests) <= 1, "it was asked again though it had said that it has none"


class BrokenJournal(MemoryUsageJournal):
    """A disk that fails as soon as anybody writes."""

    def begin(self, row: Row) -> None:
        raise Unavailable("no space left")


async def test_when_nothing_can_be_recorded_all_who_wait_are_told_one_after_the_other() -> None:
    async with running(Engine()) as engine, a_scene(limits=PATIENT, journal=BrokenJournal("b1")) as scene:
        scene.serve(wakes=True)
        held = asyncio.create_task(many(scene, 200))
        await until(lambda: waiting(scene) == 200)

        scene.serve(engine.url, wakes=True)
        found = await held

    assert [each.status for each in found] == [503] * 200
    assert engine.requests == []


async def test_one_that_does_not_wake_in_time_is_refused() -> None:
    limits = replace(PATIENT, places=Places(wake_s=0.2))
    async with a_scene(limits=limits) as scene:
        scene.serve(wakes=True)

        (refused,) = await ask(scene.port, a_request(chat_body()))
        scene.serve(wakes=False)
        (asleep,) = await ask(scene.port, a_request(chat_body()))

    assert (refused.status, refused.error["code"]) == (503, "no_replica")
    assert (asleep.status, asleep.error["code"]) == (503, "no_replica")


async def test_one_that_no_engine_was_asked_for_keeps_no_tokens_of_a_limit() -> None:
    async with a_scene(limits=replace(PATIENT, places=Places(wake_s=0.05))) as scene:
        scene.serve(wakes=True, limits=EndpointLimits(tokens_per_minute=1_000))
        long = chat_body(messages=[{"role": "user", "content": "word " * 500}], max_tokens=16)

        answers = [(await ask(scene.port, a_request(long)))[0] for _ in range(3)]

    assert [(each.status, each.error["code"]) for each in answers] == [(503, "no_replica")] * 3


@pytest.mark.parametrize("end", ["deleted", "paused", "stopped", "client left"])
async def test_who_waits_is_told_when_there_is_nothing_to_wait_for(end: str) -> None:
    async with a_scene(limits=PATIENT) as scene:
        scene.serve(wakes=True, limits=EndpointLimits(concurrency=1))
        reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
        writer.write(a_request(chat_body()))
        await until(lambda: waiting(scene) == 1)

        match end:
            case "deleted":
                scene.table.change(ENDPOINT, None)
            case "paused":
                scene.serve(wakes=True, paused=True)
            case "stopped":
                scene.gateway.waiting.close()
            case _:
                writer.close()
        seen = b"" if end == "client left" else await asyncio.wait_for(reader.readuntil(b"\r\n"), 30)
        await until(lambda: scene.table.live_total() == 0)
        writer.close()

        expected = {"deleted": b"404", "paused": b"503", "stopped": b"503", "client left": b""}[end]
        assert expected in seen
        assert scene.journal.backlog() == 0
        assert isinstance(scene.gateway.limiter, MinuteLimits)
        assert scene.gateway.limiter.running(f"endpoint/{ENDPOINT}") == 0, "its place is free again"


async def test_a_request_that_asks_for_more_than_is_left_gets_a_shorter_answer() -> None:
    async with running(Engine(tokens=500)) as engine, a_scene(limits=PATIENT) as scene:
        scene.serve(engine.url, limits=EndpointLimits(tokens_per_minute=100))

        first, second = await ask(
            scene.port,
            a_request(chat_body(max_completion_tokens=4096, max_tokens=3000)),
            a_request(chat_body(max_tokens=4096)),
        )

    limit = int(first.headers["x-millrace-max-tokens"])
    assert first.status == 200
    assert tokens_in(first.body) == limit < 100
    assert engine.requests[0]["max_tokens"] == limit
    assert "max_completion_tokens" not in engine.requests[0]
    assert (second.status, second.error["type"]) == (429, "tokens")


async def test_no_more_run_at_once_than_the_endpoint_may_and_places_come_back() -> None:
    gate = asyncio.Event()
    async with running(Engine(gate=gate)) as engine, a_scene(limits=PATIENT) as scene:
        scene.serve(engine.url, limits=EndpointLimits(concurrency=3))
        asked = [asyncio.create_task(many(scene, 1)) for _ in range(10)]
        await until(lambda: sum(each.done() for each in asked) == 7)
        gate.set()
        found = [answer for each in asked for answer in await each]
        again = await many(scene, 3)

    assert sorted(each.status for each in found) == [200] * 3 + [429] * 7
    assert {each.error["type"] for each in found if each.status == 429} == {"concurrency"}
    assert [each.status for each in again] == [200] * 3
    assert engine.in_flight_max == 3


async def test_a_replica_that_fails_is_left_out_and_clients_do_not_notice() -> None:
    async with (
        running(Engine(status=500)) as bad,
        running(Engine()) as good,
        a_scene(bad.url, good.url, limits=PATIENT) as scene,
    ):
        found = [(await many(scene, 1))[0] for _ in range(20)]

    assert [each.status for each in found] == [200] * 20
    assert FAILURES_MAX <= len(bad.requests) <= FAILURES_MAX + TRIALS_MAX
    assert len(good.requests) == 20


async def test_requests_with_the_same_long_beginning_go_to_the_same_replica() -> None:
    prompt = [{"role": "system", "content": "rules " * 1000}]
    async with (
        running(Engine()) as one,
        running(Engine()) as two,
        a_scene(one.url, two.url, limits=PATIENT) as scene,
    ):
        for number in range(12):
            question = [{"role": "user", "content": str(number)}]
            assert (await many(scene, 1, messages=[*prompt, *question]))[0].status == 200
        shared = sorted(len(each.requests) for each in (one, two))
        for _ in range(40):
            await many(scene, 1)

    assert shared == [0, 12]
    assert min(len(each.requests) for each in (one, two)) >= 8, "short prompts go anywhere"
