"""An address that is another's by now: whoever asks there is not answered by the wrong engine."""

from __future__ import annotations

from libs.common.events.runtime import Replica
from tests.unit.router.engine import Engine, running
from tests.unit.router.scene import Answer, Scene, a_request, a_scene, ask, chat_body

MODEL = "millrace/ngram-1"
OURS, THEIRS = f"{MODEL}@ep-a", f"{MODEL}@ep-of-another-tenant"


def serve(scene: Scene, *engines: Engine, name: str) -> None:
    """Route the endpoint to these addresses, by the name that its engines have."""
    replicas = (Replica(name=f"pod-{index}", url=each.url, model=name) for index, each in enumerate(engines))
    scene.serve(replicas=tuple(replicas))


async def asked(scene: Scene, times: int = 1) -> list[Answer]:
    return [answer for _ in range(times) for answer in await ask(scene.port, a_request(chat_body()))]


async def test_the_engine_of_another_endpoint_at_an_old_address_answers_nobody_and_nothing_is_billed() -> None:
    async with running(Engine(names=frozenset({THEIRS}))) as foreign, a_scene() as scene:
        serve(scene, foreign, name=OURS)

        (answer,) = await asked(scene)

        assert answer.status == 502
        assert (foreign.produced, sum(each.completion_tokens for each in await scene.bills(1))) == (0, 0)


async def test_the_replicas_that_are_still_ours_serve_what_met_an_old_address() -> None:
    async with running(Engine(names=frozenset({THEIRS}))) as foreign, running(Engine(names=frozenset({OURS}))) as own:
        async with a_scene() as scene:
            serve(scene, foreign, own, name=OURS)

            answers = await asked(scene, times=10)

        assert {each.status for each in answers} == {200}
        assert foreign.produced == 0


async def test_a_name_that_another_endpoint_has_too_would_be_answered_by_the_wrong_engine() -> None:
    """The planted fault: engines that go by the name of their model, and an address that was used again."""
    async with running(Engine(names=frozenset({MODEL}))) as foreign, a_scene() as scene:
        serve(scene, foreign, name=MODEL)

        (answer,) = await asked(scene)

        assert (answer.status, foreign.produced > 0) == (200, True)


async def test_an_endpoint_without_replicas_sends_nothing_to_where_they_were() -> None:
    async with running(Engine()) as there, a_scene() as scene:
        serve(scene, there, name=OURS)
        await asked(scene)
        scene.serve(replicas=())

        (answer,) = await asked(scene)

        assert (answer.status, answer.error["code"]) == (503, "no_replica")
        assert len(there.requests) == 1
