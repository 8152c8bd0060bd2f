"""Adapters where replicas die all the time: whoever asks for one gets its words, however many die meanwhile.

That the check sees a router that does not hold who has no answer yet, `tests/integration/test_router_kills.py` shows.
"""

from __future__ import annotations

import os
import random
import signal
from collections import Counter
from contextlib import suppress
from typing import Final

import httpx
import pytest

from tests.e2e.local_profile import Json, Profile, wait_until
from tests.e2e.streams import Streams, failed_early

pytestmark = [pytest.mark.chaos, pytest.mark.xdist_group("rollouts")]

KILLS: Final = 100
REPLICAS: Final = 3
CLIENTS: Final = 6
HELD_S: Final = 30.0  # MILLRACE_QUEUE_S: how long whoever has no answer yet is held for another replica.
ADAPTER: Final = {"name": "tone", "source": "acme/tone-lora", "rank": 16}
SECOND: Final = {"name": "legal", "source": "acme/legal-lora", "rank": 8}


def _engines(profile: Profile, endpoint: str) -> list[Json]:
    return [each for each in profile.inventory()["processes"] if endpoint in str(each)]


def _adapters_of(engine: Json) -> set[str]:
    with suppress(httpx.HTTPError):
        cards = httpx.get(f"http://{engine['address']}:{engine['port']}/v1/models", timeout=10).json()["data"]
        return {each["id"] for each in cards if each["parent"]}
    return set()


def _kill_one(profile: Profile, endpoint: str, chance: random.Random) -> bool:
    engines = _engines(profile, endpoint)
    if not engines:
        return False
    with suppress(ProcessLookupError):
        os.kill(chance.choice(engines)["pid"], signal.SIGKILL)
        return True
    return False


def _ready(profile: Profile, endpoint: str) -> int:
    return int(profile.endpoint(endpoint)["status"]["replicas"]["ready"])


def _all_have(profile: Profile, endpoint: str, names: set[str]) -> bool:
    engines = _engines(profile, endpoint)
    return len(engines) == REPLICAS and all(_adapters_of(each) == names for each in engines)


def test_a_hundred_random_kills_of_replicas_fail_no_request_that_has_no_answer_yet(rolling: Profile) -> None:
    scaling = {"min": REPLICAS, "max": REPLICAS}
    spec = {"model": "millrace/ngram-1", "tier": "l40s-dedicated", "region": "eu-1", "scaling": scaling}
    made = rolling.insist("POST", "/v1/endpoints", body={"name": "tuned", "spec": {**spec, "adapters": [ADAPTER]}})
    endpoint = str(made["endpoint_id"])
    rolling.wait_for_stage(endpoint, "ready")
    wait_until(lambda: _all_have(rolling, endpoint, {"tone"}), "not every replica has the adapter")
    chance, kills = random.Random(7), 0
    with Streams(rolling, "tuned/tone") as streams:
        while kills < KILLS:
            streams.open(CLIENTS - streams.open_ones, tokens=2)
            if _ready(rolling, endpoint) >= REPLICAS - 1:  # Else nothing more can die.
                kills += _kill_one(rolling, endpoint, chance)
        wait_until(lambda: streams.open_ones == 0, "somebody still waits")

        wait_until(lambda: _all_have(rolling, endpoint, {"tone"}), "not every replica has the adapter again")
        done = len(streams.seen)
        wait_until(lambda: _ready(rolling, endpoint) == REPLICAS, "not all are ready")
        streams.open(CLIENTS, tokens=2)
        wait_until(lambda: streams.open_ones == 0, "somebody still waits")

    tally = Counter((each.status, "whole" if each.is_whole else each.error[:40]) for each in streams.seen)
    print(f"{kills} kills, {done} requests meanwhile: {dict(tally)}")
    assert not [each for each in streams.seen if each.status == 404 or "not_found" in each.error], tally
    assert not failed_early(streams.seen, deadline_s=HELD_S), tally
    assert all(each.is_whole for each in streams.seen[done:]), streams.seen[done:]


def test_an_adapter_comes_and_goes_without_a_restart(rolling: Profile) -> None:
    (endpoint,) = [each["id"] for each in rolling.insist("GET", "/v1/endpoints")["items"] if each["name"] == "tuned"]
    before = {each["pid"] for each in _engines(rolling, endpoint)}

    asked = rolling.insist("PATCH", f"/v1/endpoints/{endpoint}", body={"spec": {"adapters": [SECOND]}})
    wait_until(
        lambda: bool(rolling.insist("GET", f"/v1/operations/{asked['id']}")["status"] == "succeeded"), "never changed"
    )

    models = httpx.get(
        f"{rolling.credentials.router_url}/models", headers={"authorization": f"Bearer {rolling.credentials.key}"}
    ).json()["data"]
    assert {each["id"] for each in models} >= {"tuned", "tuned/legal"}
    assert "tuned/tone" not in {each["id"] for each in models}
    wait_until(lambda: _all_have(rolling, endpoint, {"legal"}), "the old adapter was never let go")
    assert {each["pid"] for each in _engines(rolling, endpoint)} == before
    wait_until(lambda: _requests_of(rolling, endpoint)["tone"] > CLIENTS, "nobody was billed for the adapter")
    rolling.insist("DELETE", f"/v1/endpoints/{endpoint}")


def _requests_of(profile: Profile, endpoint: str) -> Counter[str]:
    """How many the ledger has, by adapter."""
    found = profile.client.usage("/v1/usage", query={"endpoint": endpoint, "group_by": "adapter"})["items"]
    return Counter({each["group"]["adapter"]: each["quantity"] for each in found if each["meter"] == "requests"})
