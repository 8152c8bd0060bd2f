"""An update where no GPU is spare: live streams go on to their end, new requests wait, and what is bad goes back."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle, pairwise
from typing import Final

import pytest

from tests.e2e.applied import Applied
from tests.e2e.conftest import HURRIED_DRAIN_S
from tests.e2e.local_profile import Json, Profile, wait_until
from tests.e2e.streams import Streams
from tests.e2e.test_cli import Command, loaded
from tests.e2e.test_kills import REQUESTED, Killer

pytestmark = [pytest.mark.chaos, pytest.mark.xdist_group("rollouts")]

STREAMS: Final = 200
NEWCOMERS_MAX: Final = 100
AT_ONCE: Final = 50  # Fewer than a router on a busy machine takes for more than it can serve (core/pressure.py).
STREAM_TOKENS: Final = 150  # Thirty seconds: the rollout has begun long before they end.
LONG: Final = 4
LONG_TOKENS: Final = 1200  # Four minutes: far beyond the drain, however late that begins.
SHORT: Final = 2
SHORT_TOKENS: Final = 2
CANARIES: Final = 3
LARGE: Final = "millrace/ngram-1-large"
STEPS: Final = (
    "endpoint-requested",
    "runtime-image-pulled",
    "runtime-model-downloaded",
    "runtime-model-loaded",
    "runtime-cache-warmed",
    "runtime-replicas-changed",
)
ROLLS_MAX: Final = 12  # One that is killed at a step may have told the next before it is back.


@pytest.fixture(scope="module")
def run(rolling: Profile, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """The command of an operator."""
    with loaded(rolling, tmp_path_factory.mktemp("said")) as command:
        yield command


def _update(profile: Profile, endpoint: str, **spec: str) -> str:
    """Ask for another spec; the operation's id."""
    return str(profile.insist("PATCH", f"/v1/endpoints/{endpoint}", body={"spec": spec})["id"])


def _ended(profile: Profile, operation: str, meanwhile: Callable[[], None] = lambda: None) -> Json:
    """The operation once it has ended."""
    found: Json = {}

    def has_ended() -> bool:
        nonlocal found
        meanwhile()
        found = profile.insist("GET", f"/v1/operations/{operation}")
        return bool(found["status"] != "running")

    wait_until(has_ended, f"{operation} never came to its end")
    return found


def _receipt(run: Command, operation: str) -> Json:
    found: Json = run.json("operations", "receipt", operation)
    return found


def _models(run: Command, name: str) -> list[str]:
    """What each replica of the route answers to."""
    return sorted(each["model"] for each in run.json("trace", name)["route"]["replicas"])


def _one_more(streams: Streams, count_max: int) -> None:
    """Somebody comes, unless so many did."""
    if len(streams.seen) < count_max:
        streams.open(1, tokens=5)


def _are_live(streams: Streams, count: int) -> bool:
    """Whether so many are being answered. Who was refused never will be."""
    refused = [each for each in streams.seen if each.status not in (0, 200)]
    assert not refused, refused[:3]
    return streams.live == count


def _whole(streams: Streams) -> None:
    """Every client got all of its answer: none was refused and none was cut."""
    assert {each.status for each in streams.seen} == {200}, [each for each in streams.seen if each.status != 200][:3]
    cut = [each for each in streams.seen if not each.is_whole]
    assert not cut, (len(cut), cut[:3])


def test_an_update_under_200_live_streams_without_a_spare_gpu_refuses_and_cuts_nobody(rolling: Profile) -> None:
    endpoint = rolling.create("full")
    rolling.wait_for_stage(endpoint, "ready")
    (node,) = rolling.inventory()["nodes"]
    assert (node["gpus"], len(rolling.inventory()["pods"])) == (1, 1), "there is a GPU to spare"
    with Streams(rolling, "full") as streams:
        for count in range(AT_ONCE, STREAMS + 1, AT_ONCE):
            streams.open(AT_ONCE, tokens=STREAM_TOKENS)
            wait_until(partial(_are_live, streams, count), "the streams never began")

        asked = _update(rolling, endpoint, model=LARGE)
        assert streams.live == STREAMS, "the rollout began while all of them ran"

        assert _ended(rolling, asked, lambda: _one_more(streams, STREAMS + NEWCOMERS_MAX))["status"] == "succeeded"
        waited = streams.open_ones
        wait_until(lambda: streams.open_ones == 0, "somebody still waits")

    _whole(streams)
    assert len(streams.seen) > STREAMS, "nobody came meanwhile"
    print(f"{STREAMS} live streams, {len(streams.seen) - STREAMS} came during the rollout, {waited} open at its end")
    assert rolling.endpoint(endpoint)["spec"]["model"] == LARGE
    rolling.insist("DELETE", f"/v1/endpoints/{endpoint}")


def test_an_image_that_is_not_there_is_rolled_back_and_whoever_came_meanwhile_is_served(rolling: Profile) -> None:
    endpoint = rolling.create("bad-image")
    rolling.wait_for_stage(endpoint, "ready")
    with Streams(rolling, "bad-image") as streams:
        streams.open(5, tokens=20)
        wait_until(lambda: streams.live == 5, "the streams never began")

        asked = _update(rolling, endpoint, template="vllm@9")
        operation = _ended(rolling, asked, lambda: _one_more(streams, 20))
        back = rolling.wait_for_stage(endpoint, "ready")
        wait_until(lambda: streams.open_ones == 0, "somebody still waits")

    assert (operation["status"], back["spec"]["template"]) == ("rolled_back", "")
    assert "ImagePullBackOff" in operation["message"]
    _whole(streams)
    rolling.insist("DELETE", f"/v1/endpoints/{endpoint}")


def test_what_a_rollout_cuts_at_its_deadline_and_nothing_else_is_on_its_receipt(rolling: Profile, run: Command) -> None:
    endpoint = rolling.create("hurried", template="vllm@8")
    rolling.wait_for_stage(endpoint, "ready")
    with Streams(rolling, "hurried") as streams:
        streams.open(LONG, tokens=LONG_TOKENS)
        streams.open(SHORT, tokens=SHORT_TOKENS)
        wait_until(lambda: streams.live == LONG, "the long streams never began")

        asked = _update(rolling, endpoint, model=LARGE)
        began_s = time.monotonic()
        done = _ended(rolling, asked)
        wait_until(lambda: streams.open_ones == 0, "a stream was never cut")

    cut, whole = ([each for each in streams.seen if each.is_whole is so] for so in (False, True))
    opening = whole[0].tokens - SHORT_TOKENS  # Of what is counted here: the frame before the first token.
    wait_until(lambda: _receipt(run, asked)["streams_cut"] == len(cut), "the receipt never listed them all")
    listed = {each["request_id"]: each["completion_tokens"] for each in _receipt(run, asked)["items"]}
    print(run("operations", "receipt", asked).out)
    assert (done["status"], len(cut)) == ("succeeded", LONG)
    assert listed == {each.request_id: each.tokens - opening for each in cut}
    assert min(each.ended_s or 0 for each in cut) - began_s >= HURRIED_DRAIN_S, "cut before the deadline"
    assert _receipt(run, rolling.endpoint(endpoint)["status"]["last_operation"]["id"]) == _receipt(run, asked)
    rolling.insist("DELETE", f"/v1/endpoints/{endpoint}")


def test_new_replicas_that_fail_what_they_are_asked_are_rolled_back_and_the_old_ones_serve(rolling: Profile) -> None:
    endpoint = rolling.create("canary", min_replicas=CANARIES)
    rolling.wait_for_stage(endpoint, "ready")
    wait_until(lambda: rolling.endpoint(endpoint)["status"]["replicas"]["ready"] == CANARIES, "not all are ready")
    with Streams(rolling, "canary") as streams:

        def keep_asking() -> None:
            streams.open(2 * CANARIES - streams.open_ones, tokens=1)

        asked = _update(rolling, endpoint, template="vllm@7")
        operation = _ended(rolling, asked, keep_asking)
        back = rolling.wait_for_stage(endpoint, "ready")
        done = len(streams.seen)
        streams.open(CANARIES, tokens=1)
        wait_until(lambda: streams.open_ones == 0, "somebody still waits")

    tally = Counter((each.status, each.is_whole) for each in streams.seen[:done])
    print(f"{operation['status']}: {operation['message']}; meanwhile {dict(tally)}")
    assert (operation["status"], back["spec"]["template"]) == ("rolled_back", "")
    assert "ErrorRate: new replicas failed" in operation["message"]
    assert all(each.is_whole for each in streams.seen[done:])
    rolling.insist("DELETE", f"/v1/endpoints/{endpoint}")


def test_a_rollout_stands_still_while_it_is_paused_and_comes_to_its_end_when_it_is_resumed(
    rolling: Profile, run: Command
) -> None:
    endpoint = rolling.create("paused", min_replicas=CANARIES, template="vllm@1")
    rolling.wait_for_stage(endpoint, "ready")
    wait_until(lambda: rolling.endpoint(endpoint)["status"]["replicas"]["ready"] == CANARIES, "not all are ready")
    before = _models(run, "paused")

    asked = _update(rolling, endpoint, template="vllm@4")  # Whose engines answer to the endpoint's own name.
    held = rolling.insist("POST", f"/v1/operations/{asked}/pause")  # At once: a command takes a moment to start.
    other = rolling.create("meanwhile")  # From nothing to ready: longer than any step of the rollout.
    rolling.wait_for_stage(other, "ready")
    status, meanwhile = rolling.endpoint(endpoint)["status"], _models(run, "paused")
    run.json("operations", "resume", asked)
    done = _ended(rolling, asked)

    print(f"{before} -> paused {meanwhile} -> {_models(run, 'paused')}")
    assert (held["paused"], status["stage"], status["reason"]) == (True, "updating", "RolloutPaused")
    assert "millrace/ngram-1" in meanwhile, "it went on while it was paused"
    assert (done["status"], set(_models(run, "paused"))) == ("succeeded", {f"millrace/ngram-1@{endpoint}"})
    for each in (endpoint, other):
        rolling.insist("DELETE", f"/v1/endpoints/{each}")


def test_a_rollout_comes_to_its_end_though_the_deployer_is_killed_at_each_step_of_it(rolling: Profile) -> None:
    endpoint = rolling.create("rolling")
    rolling.wait_for_stage(endpoint, "ready")
    applied = Applied(rolling, endpoint)
    asked: dict[int, str] = {rolling.endpoint(endpoint)["status"]["generation"]: "millrace/ngram-1"}
    subjects = (REQUESTED, "mr.v1.evt.runtime-deployer.>")
    with Killer(rolling, "runtime-deployer", subjects) as killer:
        killer.wanted = set(STEPS)
        for model, _ in zip(cycle((LARGE, "millrace/ngram-1")), range(ROLLS_MAX), strict=False):
            done = _ended(rolling, _update(rolling, endpoint, model=model))
            assert done["status"] == "succeeded", done
            asked[done["generation"]] = model
            rolling.wait_until_healthy()
            if not killer.wanted:
                break

        assert not killer.wanted, f"never killed at {killer.wanted}; it was at {killer.met}"

    wait_until(lambda: bool(applied.seen) and applied.seen[-1][0] == max(asked), "the watch never told the newest")
    generations = [generation for generation, _ in applied.seen]
    assert all(before <= after for before, after in pairwise(generations)), applied.seen
    assert {generation: model for generation, model in applied.seen if generation in asked} == asked
    print(f"killed at {killer.met}; applied in order: {applied.seen}")
    rolling.insist("DELETE", f"/v1/endpoints/{endpoint}")
