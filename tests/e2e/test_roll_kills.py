"""SIGKILL of the runtime-deployer at each step of a rollout: it converges, and nothing of an older generation lands."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from itertools import cycle, pairwise
from typing import Any, Final

import httpx
import pytest

from tests.e2e.local_profile import Profile, running_profile, wait_until
from tests.e2e.test_kills import REQUESTED, Killer

pytestmark = [pytest.mark.chaos, pytest.mark.xdist_group("rollouts")]

STEPS: Final = (
    "endpoint-requested",
    "runtime-image-pulled",
    "runtime-model-downloaded",
    "runtime-model-loaded",
    "runtime-cache-warmed",
    "runtime-replicas-changed",
)
ROLLS_MAX: Final = 12  # One that is killed at a step may have told the next before it is back.
MODELS: Final = ("millrace/ngram-1-large", "millrace/ngram-1")


@pytest.fixture(scope="module")
def rolled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Profile]:
    """A profile of our own to be killed in."""
    with running_profile(tmp_path_factory.mktemp("roll-kills") / "home", time_scale=0.003) as running:
        yield running


class Applied:
    """Every version of an endpoint's Deployment, as its tenant cluster told it to a watch."""

    def __init__(self, profile: Profile, endpoint_id: str) -> None:
        (cluster,) = profile.inventory()["clusters"]
        place = f"/kubernetes/project/{cluster['project']}/virtualcluster/{cluster['name']}"
        url = json.loads(profile.home.credentials.read_text())["twin_url"]
        self._client = httpx.Client(headers={"authorization": f"Bearer {profile.home.twin_key.read_text().strip()}"})
        self._url = f"{url}{place}/apis/apps/v1/namespaces/inference/deployments?watch=1"
        self._name = endpoint_id
        self.seen: list[tuple[int, str]] = []  # Generation and model, in the order of the versions.
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        with suppress(httpx.HTTPError), self._client.stream("GET", self._url, timeout=None) as lines:
            for line in lines.iter_lines():  # Until the cluster goes, or the twin.
                self._note(json.loads(line)["object"])

    def _note(self, deployment: Any) -> None:
        if deployment["metadata"]["name"] != self._name:
            return
        generation = int(deployment["metadata"]["annotations"]["millrace.dev/generation"])
        model = deployment["spec"]["template"]["metadata"]["annotations"]["millrace.dev/model"]
        if not self.seen or self.seen[-1] != (generation, model):
            self.seen.append((generation, model))


def test_a_rollout_comes_to_its_end_though_the_deployer_is_killed_at_each_step_of_it(rolled: Profile) -> None:
    endpoint = rolled.create("rolling")
    rolled.wait_for_stage(endpoint, "ready")
    applied = Applied(rolled, endpoint)
    asked: dict[int, str] = {rolled.endpoint(endpoint)["status"]["generation"]: "millrace/ngram-1"}
    subjects = (REQUESTED, "mr.v1.evt.runtime-deployer.>")
    with Killer(rolled, "runtime-deployer", subjects) as killer:
        killer.wanted = set(STEPS)
        for model, _ in zip(cycle(MODELS), range(ROLLS_MAX), strict=False):
            rolled.insist("PATCH", f"/v1/endpoints/{endpoint}", body={"spec": {"model": model}})
            rolled.wait_for_stage(endpoint, "updating")
            ready = rolled.wait_for_stage(endpoint, "ready")
            asked[ready["status"]["generation"]] = model
            rolled.wait_until_healthy()
            if not killer.wanted:
                break

        assert not killer.wanted, f"never killed at {killer.wanted}; it was at {killer.met}"

    wait_until(lambda: bool(applied.seen) and applied.seen[-1][0] == max(asked), "the watch never told the newest")
    generations = [generation for generation, _ in applied.seen]
    assert all(before <= after for before, after in pairwise(generations)), applied.seen
    assert {generation: model for generation, model in applied.seen if generation in asked} == asked
    wait_until(lambda: len(rolled.inventory()["processes"]) == 1, "an old model server still runs")
    print(f"killed at {killer.met}; applied in order: {applied.seen}")
