"""SIGKILL of any process at any stage: what was accepted still comes to its end, once, and nothing is left behind."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections import Counter
from collections.abc import Collection, Iterator
from typing import Final

import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from libs.common.bus.streams import CONSUMERS
from libs.common.bus.tail import tail
from tests.e2e.local_profile import WAIT_S, Profile, running_profile, wait_until

CREATE: Final = (
    "endpoint-requested",
    "waiting_for_capacity",
    "provisioning_cluster",
    "joining_nodes",
    "preparing_gpu",
    "pulling_image",
    "downloading_model",
    "loading_model",
    "warming_cache",
    "publishing_route",
    "ready",
)
# Two ends: from `draining` to `deleted` there is time to be started again, to `deleting` there is not.
DELETE: Final = (("draining", "deleted"), ("deleting",))
SUBJECT: Final = "mr.v1.evt.endpoint-api.endpoint-stage-changed.>"
REQUESTED: Final = "mr.v1.evt.endpoint-api.endpoint-requested.>"  # The first stage is told by the request itself.
LIVES_MAX: Final = len(CREATE) + 1  # Most processes need two; one that is slow to come back, a life for each stage.
# What a process was about to do when it was killed comes again after the consumer's `ack_wait_s`; so at each stage, if
# one such wait lets all that follows pile up.
READY_S: Final = WAIT_S + max(each.ack_wait_s for each in CONSUMERS) * len(CREATE)
# Between two kills the process is started again; a second kill before that would prove nothing.
BREATH_S: Final = 0.05

# Two profiles, so that two workers share the work; the costliest alone.
PROCESSES: Final = [
    pytest.param(process, marks=pytest.mark.xdist_group(f"kills-{group}"))
    for process, group in (
        ("endpoint-api", 0),
        ("nats", 0),
        ("capacity-manager", 1),
        ("runtime-deployer", 1),
        ("router", 1),
        ("metering", 1),
        ("autoscaler", 0),
    )
]


@pytest.fixture(scope="module")
def killed_profile(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Profile]:
    """A profile of our own to be killed in."""
    with running_profile(tmp_path_factory.mktemp("kills") / "home") as running:
        yield running


class Killer:
    """Hears each stage that an endpoint enters, and kills the process at once if that stage is wanted.

    Of other subjects than those of stages it hears the event's own name.
    """

    def __init__(self, profile: Profile, process: str, subjects: Collection[str] = (REQUESTED, SUBJECT)) -> None:
        self._profile = profile
        self._process = process
        self._subjects = subjects
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._last_s = 0.0
        self.wanted: set[str] = set()
        self.met: list[str] = []

    def __enter__(self) -> Killer:
        """Begin to listen."""
        self._thread.start()
        self._client = asyncio.run_coroutine_threadsafe(self._listen(), self._loop).result(WAIT_S)
        return self

    def __exit__(self, *_: object) -> None:
        """Stop listening."""
        asyncio.run_coroutine_threadsafe(self._client.close(), self._loop).result(WAIT_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    async def _listen(self) -> Client:
        client = await nats.connect(
            self._profile.credentials.nats_url, max_reconnect_attempts=-1, reconnect_time_wait=0.02, error_cb=_ignore
        )
        for subject in self._subjects:
            await client.subscribe(subject, cb=self._heard)
        await client.flush()
        return client

    async def _heard(self, message: Msg) -> None:
        stage = json.loads(message.data).get("stage", message.subject.split(".")[4])
        if stage in self.wanted and time.monotonic() - self._last_s > BREATH_S and self._profile.kill(self._process):
            self._last_s = time.monotonic()
            self.wanted.discard(stage)
            self.met.append(stage)


async def _ignore(_trouble: Exception) -> None:
    """The broker is killed on purpose."""


@pytest.mark.chaos
@pytest.mark.parametrize("process", PROCESSES)
def test_an_endpoint_comes_and_goes_though_a_process_is_killed_at_every_stage(
    killed_profile: Profile, process: str
) -> None:
    """The process dies at each stage that endpoints enter, and again while they are taken away."""
    killed_profile.wait_until_healthy()
    with Killer(killed_profile, process) as killer:
        endpoints = _live(killed_profile, process, killer)
        assert not killer.wanted, f"{process} was never killed at {killer.wanted}; it was at {killer.met}"
        _stand_once(killed_profile, endpoints)

        for place, endpoint_id in enumerate(endpoints):
            _die(killed_profile, killer, endpoint_id, DELETE[place] if place < len(DELETE) else ())

    killed_profile.wait_until_healthy()
    _nothing_is_left(killed_profile)
    ready = _times_ready(killed_profile)
    assert {each: ready[each] for each in endpoints} == dict.fromkeys(endpoints, 1)


def _live(profile: Profile, process: str, killer: Killer) -> list[str]:
    """Create endpoints until the process was killed at every stage; each must become ready."""
    killer.wanted = set(CREATE)
    endpoints: list[str] = []
    while (killer.wanted or len(endpoints) < len(DELETE)) and len(endpoints) < LIVES_MAX:
        endpoints.append(profile.create(f"survivor-{len(endpoints) + 1}-of-{process}"))
        profile.wait_for_stage(endpoints[-1], "ready", timeout_s=READY_S)
        profile.wait_until_healthy()
    return endpoints


def _die(profile: Profile, killer: Killer, endpoint_id: str, stages: Collection[str]) -> None:
    """Delete an endpoint, killing at each of these stages of its end."""
    profile.wait_until_healthy()
    killer.wanted = set(stages)
    profile.insist("DELETE", f"/v1/endpoints/{endpoint_id}")
    profile.wait_for_stage(endpoint_id, "deleted")
    wait_until(lambda: not killer.wanted, f"never killed at {killer.wanted} of the end of {endpoint_id}")


def _stand_once(profile: Profile, endpoints: list[str]) -> None:
    """One cluster, one node, one running model server each: nothing was made twice."""
    inventory = profile.inventory()
    for kind in ("clusters", "claims", "nodes", "pods", "processes"):
        assert len(inventory[kind]) == len(endpoints), (kind, inventory[kind])
    assert sorted(each["name"] for each in inventory["clusters"]) == sorted(endpoints)


def _times_ready(profile: Profile) -> Counter[str]:
    """How often each endpoint was told to be ready."""

    async def read() -> Counter[str]:
        told: Counter[str] = Counter()
        async for each in tail(profile.credentials.nats_url, stream="MR_EVT", subject=SUBJECT):
            told[each.message.headers["ce-subject"]] += json.loads(each.message.body)["stage"] == "ready"
        return told

    return asyncio.run(read())


def _nothing_is_left(profile: Profile) -> None:
    def is_empty() -> bool:
        inventory = profile.inventory()
        return not any(inventory[kind] for kind in ("clusters", "claims", "nodes", "objects", "pods", "processes"))

    assert is_empty(), profile.inventory()
    wait_until(lambda: profile.client.models() == [], "the router still serves something")
