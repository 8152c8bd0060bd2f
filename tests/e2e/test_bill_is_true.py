"""The bill, against the truth: what 200 clients got, counted by them, is what the ledger has and billing was told.

How the truth is counted, and why it is exact although a third of the clients leave, says `listeners`.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import pytest

from libs.common.bus.tail import tail
from libs.common.store.sql import SqlStore
from libs.common.units import SECOND_MS
from services.metering.core.windows import Windows
from services.metering.shell.audit import audit
from tests.e2e.conftest import BILLED
from tests.e2e.listeners import Heard, Hush, Listener, Manner, Plan
from tests.e2e.local_profile import WAIT_S, Profile, running_profile, wait_until

REQUESTS: Final = 200
AT_ONCE: Final = 8
LEAVERS: Final = (Manner.LEAVES, Manner.HANGS_UP, Manner.LEAVES, Manner.LEAVES_EARLY)
CHECKPOINT_TOKENS: Final = 64  # What a crash of the router may leave unbilled of one answer: its promise.
KILLED: Final = ("router", "metering", "nats")
RETRY_S: Final = 0.1


@dataclass(frozen=True, slots=True)
class Bill:
    """One request as the ledger has it."""

    tokens: int
    prompt_tokens: int
    finish: str


def plans(*, seed: int, tokens: tuple[int, int], leavers: Sequence[Manner] = LEAVERS) -> Iterator[Plan]:
    """What each client does; every third leaves."""
    chance = random.Random(seed)
    for number in range(REQUESTS):
        limit = chance.randint(*tokens)
        manner = leavers[number // 3 % len(leavers)] if number % 3 == 0 else Manner.STREAMS
        if manner is Manner.STREAMS and leavers is LEAVERS and number % 5 == 0:
            manner = Manner.WAITS
        yield Plan(
            manner=manner,
            is_chat=chance.random() < 0.7,
            max_tokens=limit,
            leaves_after=chance.randint(1, limit - 5),
            wants_usage=manner is Manner.STREAMS and chance.random() < 0.5,
            resets=number % 2 == 0,
        )


def a_listener(profile: Profile, name: str) -> Listener:
    """A client of the endpoint of this name."""
    (pid,) = [each["pid"] for each in profile.inventory()["processes"] if profile.endpoint(name)["id"] in each["key"]]
    port = urlsplit(profile.credentials.router_url).port
    assert port is not None
    return Listener(port=port, key=profile.credentials.key, model=name, hush=Hush(pid))


def lines(profile: Profile, endpoint_id: str) -> list[dict[str, Any]]:
    """All lines of the endpoint's ledger."""
    found: list[dict[str, Any]] = []
    cursor = None
    while True:
        query = {"endpoint": endpoint_id, "limit": 200, "cursor": cursor}
        page = profile.client.usage("/v1/ledger", query=query)
        found += page["items"]
        cursor = page["cursor"]
        if cursor is None:
            return found


def bills(profile: Profile, endpoint_id: str) -> dict[str, Bill]:
    """The ledger's requests; fails if one is there twice."""
    of: dict[str, dict[str, Any]] = {}
    for each in lines(profile, endpoint_id):
        if "request_id" not in each["data"]:
            continue  # Of time, not of a request.
        entry = of.setdefault(each["data"]["request_id"], {"finish": each["data"]["finish"]})
        assert each["meter"] not in entry, each
        entry[each["meter"]] = each["quantity"]
    assert all(each["requests"] == 1 for each in of.values())
    return {
        request_id: Bill(each["completion_tokens"], each["prompt_tokens"], each["finish"])
        for request_id, each in of.items()
    }


def recorded(profile: Profile, endpoint_id: str) -> dict[str, int]:
    """What billing was told, summed by meter: of each window its last revision."""

    async def read() -> dict[tuple[str, str, int], tuple[int, int]]:
        told: dict[tuple[str, str, int], tuple[int, int]] = {}
        subject = "mr.v1.evt.metering.usage-recorded.>"
        async for each in tail(profile.credentials.nats_url, stream="MR_EVT", subject=subject):
            data = json.loads(each.message.body)
            window = (data["meter"], data["account"], data["window_start_ms"])
            if data["endpoint_id"] == endpoint_id and data["revision"] > told.get(window, (0, 0))[0]:
                told[window] = (data["revision"], data["quantity"])
        return told

    sums: dict[str, int] = {}
    for (meter, _account, _start), (_revision, quantity) in asyncio.run(read()).items():
        sums[meter] = sums.get(meter, 0) + quantity
    return sums


def metering_env(profile: Profile) -> dict[str, str]:
    """The settings that the running metering was given."""
    plan = json.loads(profile.home.plan.read_text())
    env: dict[str, str] = next(each["env"] for each in plan if each["name"] == "metering")
    return env


def differences(profile: Profile, *, from_ms: int, to_ms: int) -> list[str]:
    """What metering's audit finds in its database, of the windows that these times are in."""
    env = metering_env(profile)
    windows = Windows(size_ms=int(env["MILLRACE_WINDOW_S"]) * SECOND_MS)
    store = SqlStore(env["MILLRACE_DATABASE_URL"])
    try:
        start_ms, end_ms = windows.start_of(from_ms), windows.start_of(to_ms) + windows.size_ms
        return [str(each) for each in audit(store, windows=windows, from_ms=start_ms, to_ms=end_ms)]
    finally:
        store.close()


def whole_audit(profile: Profile) -> str:
    """The audit of the whole ledger, as an operator runs it."""
    command = [sys.executable, "-m", "services.metering", "audit"]
    env = {**os.environ, **metering_env(profile)}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


def billing_agrees(profile: Profile, endpoint_id: str) -> None:
    """Once the windows have closed, billing was told what the ledger has, and the audit of them finds no difference."""
    totals = {
        each["meter"]: each["quantity"]
        for each in profile.client.usage("/v1/usage", query={"endpoint": endpoint_id})["items"]
        if each["account"] == "" and not each["meter"].endswith("_ms")  # Time goes on while we look.
    }

    def told() -> bool:
        sums = recorded(profile, endpoint_id)
        return {meter: sums.get(meter, 0) for meter in totals} == totals

    wait_until(told, f"billing was told {recorded(profile, endpoint_id)}, the ledger has {totals}")
    at_ms = [each["at_ms"] for each in lines(profile, endpoint_id) if each["account"] == ""]
    # GPU time of the same windows is told a little later than what was asked in them.
    wait_until(lambda: differences(profile, from_ms=min(at_ms), to_ms=max(at_ms)) == [], "the audit finds a difference")


def in_ledger(profile: Profile, endpoint_id: str, heard: Iterable[Heard]) -> dict[str, Bill]:
    """The bills, once those of all who got an answer's head are there."""
    known = {each.request_id for each in heard if each.request_id}
    wait_until(lambda: known <= set(bills(profile, endpoint_id)), "some requests never came to the ledger")
    return bills(profile, endpoint_id)


@pytest.mark.xdist_group("profile")
def test_two_hundred_requests_of_which_a_third_leave_are_billed_to_the_token(profile: Profile, billed: str) -> None:
    listener = a_listener(profile, BILLED)

    async def all_of_them() -> list[Heard]:
        room = asyncio.Semaphore(AT_ONCE)

        async def one(plan: Plan) -> Heard:
            async with room:
                return await listener.ask(plan)

        return await asyncio.gather(*(one(each) for each in plans(seed=11, tokens=(20, 50))))

    truth = asyncio.run(all_of_them())
    wait_until(lambda: len(bills(profile, billed)) >= REQUESTS, "the ledger does not have all requests")
    ledger = in_ledger(profile, billed, truth)

    assert len(ledger) == REQUESTS
    every_token_is_billed(truth, ledger)
    complete_answers_are_billed_as_they_say(truth, ledger)
    those_who_left_are_billed_as_such(truth, ledger)
    billing_agrees(profile, billed)


def every_token_is_billed(truth: Sequence[Heard], ledger: Mapping[str, Bill]) -> None:
    """Request by request, and in sum."""
    got = {each.request_id: each.tokens for each in truth if each.request_id}
    nameless = [each for each in truth if not each.request_id]  # They left before there was anything to answer.
    assert {each.plan.manner for each in nameless} <= {Manner.LEAVES_EARLY}
    assert {request_id: bill.tokens for request_id, bill in ledger.items() if request_id in got} == got
    of_nameless = [bill.tokens for request_id, bill in ledger.items() if request_id not in got]
    assert of_nameless == [0] * len(nameless)
    assert sum(bill.tokens for bill in ledger.values()) == sum(each.tokens for each in truth)


def complete_answers_are_billed_as_they_say(truth: Sequence[Heard], ledger: Mapping[str, Bill]) -> None:
    """All who stayed got all, and their prompts are in the bill too."""
    complete = [each for each in truth if each.plan.manner in (Manner.STREAMS, Manner.WAITS)]
    assert all(each.is_complete for each in complete)
    assert [each.tokens for each in complete] == [each.plan.max_tokens for each in complete]
    said = {(each.plan.is_chat, each.prompt_tokens) for each in complete if each.prompt_tokens is not None}
    assert len(said) == 2  # One prompt, asked in two ways.
    assert {(each.plan.is_chat, ledger[each.request_id].prompt_tokens) for each in complete} == said
    assert {ledger[each.request_id].finish for each in complete} == {"length"}


def those_who_left_are_billed_as_such(truth: Sequence[Heard], ledger: Mapping[str, Bill]) -> None:
    """They left, and nearly all of them really in the middle: few had all content already when it was noticed."""
    left = [each for each in truth if each.plan.manner in LEAVERS]
    cut = [each for each in left if each.tokens < each.plan.max_tokens]
    assert len(left) > REQUESTS // 3
    assert len(cut) > len(left) * 0.8
    assert not any(each.is_complete for each in cut)
    assert {ledger[each.request_id].finish for each in cut if each.request_id} == {"client_disconnect"}
    in_the_middle = [each for each in cut if each.plan.manner is not Manner.LEAVES_EARLY]
    assert all(each.tokens >= each.plan.leaves_after for each in in_the_middle)


@pytest.fixture
def mortal_profile(tmp_path: Path) -> Iterator[Profile]:
    """A profile of our own to be killed in."""
    with running_profile(tmp_path / "home") as running:
        yield running


@pytest.mark.chaos
@pytest.mark.xdist_group("mortal-profile")
def test_the_bill_survives_the_death_of_router_metering_and_bus(mortal_profile: Profile) -> None:
    """A quarter and a half and three quarters through, one of them is killed. No answer that was complete is billed
    for anything but what it was; of one that was cut short, a checkpoint may be missing, and nothing too much is there.
    """
    endpoint_id = mortal_profile.create(BILLED)
    mortal_profile.wait_for_stage(endpoint_id, "ready")
    listener = a_listener(mortal_profile, BILLED)
    truth: list[Heard] = []

    async def all_of_them() -> None:
        room = asyncio.Semaphore(AT_ONCE)
        deaths = {REQUESTS * (place + 1) // (len(KILLED) + 1): process for place, process in enumerate(KILLED)}

        async def one(plan: Plan) -> None:
            async with room:
                truth.append(await persistent(listener, plan))
            if len(truth) in deaths:
                assert mortal_profile.kill(deaths[len(truth)])

        await asyncio.gather(*(one(each) for each in plans(seed=12, tokens=(20, 200), leavers=(Manner.LEAVES,))))

    asyncio.run(all_of_them())
    mortal_profile.wait_until_healthy()
    ledger = in_ledger(mortal_profile, endpoint_id, truth)

    complete = {each.request_id: each.tokens for each in truth if each.is_complete}
    cut = {each.request_id: each.tokens for each in truth if not each.is_complete and each.request_id}
    died_with_router = [each for each in truth if not each.is_complete and each.plan.manner is Manner.STREAMS]
    assert died_with_router, "nobody was served when the router was killed: the test proves nothing"
    assert len(complete) > REQUESTS // 2
    assert {request_id: ledger[request_id].tokens for request_id in complete} == complete
    assert [each for each in cut if not max(0, cut[each] - CHECKPOINT_TOKENS) <= ledger[each].tokens <= cut[each]] == []
    assert all(bill.tokens == 0 for request_id, bill in ledger.items() if request_id not in {*complete, *cut})
    assert len(complete) + len(cut) + len([each for each in truth if not each.request_id]) == REQUESTS
    assert {bill.finish for bill in ledger.values()} <= {"length", "client_disconnect", "router_crash"}
    # The engine may have ended an answer that died on its way out; nobody who stayed is said to have left.
    assert {ledger[each.request_id].finish for each in died_with_router if each.request_id} <= {
        "length",
        "router_crash",
    }
    billing_agrees(mortal_profile, endpoint_id)
    mortal_profile.insist("DELETE", f"/v1/endpoints/{endpoint_id}")
    mortal_profile.wait_for_stage(endpoint_id, "deleted")  # Now nothing is held, and every window comes to be told.
    wait_until(lambda: whole_audit(mortal_profile) == "0 differences\n", "the audit finds a difference")


async def persistent(listener: Listener, plan: Plan) -> Heard:
    """Ask until somebody takes the request; what was taken is never asked again."""
    async with asyncio.timeout(WAIT_S):
        while True:
            with contextlib.suppress(ConnectionError):
                return await listener.ask(plan)
            await asyncio.sleep(RETRY_S)
