"""An endpoint that may sleep: nothing runs for it when nobody asks, and whoever asks first wakes it for everybody."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Final

import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from libs.common.bus.tail import tail
from tests.e2e.local_profile import Profile, wait_until

pytestmark = [pytest.mark.xdist_group("profile"), pytest.mark.chaos]

IDLE_S: Final = 30  # The least that one may ask for.
AT_ONCE: Final = 20
PATIENCE_S: Final = 300.0
SUBJECT: Final = "mr.v1.evt.autoscaler.scale-decided.*.{endpoint}"


def decided(profile: Profile, endpoint_id: str) -> list[int]:
    """How many replicas were decided on for it, one after the other."""

    async def read() -> list[int]:
        subject = SUBJECT.format(endpoint=endpoint_id)
        told = tail(profile.credentials.nats_url, stream="MR_EVT", subject=subject)
        return [json.loads(each.message.body)["replicas"] async for each in told]

    return asyncio.run(read())


def replicas(profile: Profile, endpoint_id: str) -> tuple[int, int]:
    """Wanted and ready."""
    found = profile.endpoint(endpoint_id)["status"]["replicas"]
    return found["desired"], found["ready"]


def test_requests_that_find_it_asleep_are_held_and_served_by_one_activation(profile: Profile) -> None:
    scaling = {"min": 1, "max": 1, "target_concurrency": 8, "idle_to_zero_s": IDLE_S}
    spec = {"model": "millrace/ngram-1", "tier": "l40s-dedicated", "region": "eu-1", "scaling": scaling}
    made = profile.insist("POST", "/v1/endpoints", body={"name": "sleeper", "spec": spec})
    endpoint_id = str(made["endpoint_id"])
    profile.wait_for_stage(endpoint_id, "ready")

    wait_until(lambda: replicas(profile, endpoint_id) == (0, 0), "it does not sleep", timeout_s=PATIENCE_S)
    asleep = profile.stage(endpoint_id)
    with (
        openai.OpenAI(
            base_url=profile.credentials.router_url,
            api_key=profile.credentials.key,
            max_retries=0,
            timeout=PATIENCE_S,
        ) as client,
        ThreadPoolExecutor(AT_ONCE) as pool,
    ):

        def ask(number: int) -> str | None:
            said: ChatCompletionMessageParam = {"role": "user", "content": str(number)}
            answer = client.chat.completions.create(model="sleeper", messages=[said], max_tokens=8)
            return answer.choices[0].message.content

        def all_are_answered_and_it_was_woken() -> bool:
            """Who comes while the old replica still drains may be served by it, and wakes nobody."""
            assert all(pool.map(ask, range(AT_ONCE)))
            return len(decided(profile, endpoint_id)) > 1

        wait_until(all_are_answered_and_it_was_woken, "nobody woke it", timeout_s=PATIENCE_S)

    assert asleep == "ready", "it serves whoever asks: only the first wait is longer"
    assert decided(profile, endpoint_id) == [0, 1]
    wait_until(lambda: replicas(profile, endpoint_id) == (1, 1), "it is not awake")
    assert profile.stage(endpoint_id) == "ready"
    profile.insist("DELETE", f"/v1/endpoints/{endpoint_id}")
