"""What keys and limits promise, asked of the whole product: at the router, where traffic is, and at the API."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

import httpx
import pytest

from libs.common.clock import SystemClock
from tests.e2e.conftest import BILLED, SERVED
from tests.e2e.local_profile import WAIT_S, Profile, wait_until
from tests.e2e.test_cli import Command
from tests.support.web import NO_TLS

pytestmark = [pytest.mark.xdist_group("profile"), pytest.mark.chaos]

LET_IN: Final = 200
OVERLAP_S: Final = 4  # Long enough for a request in it on a busy machine, short enough to wait for.
MARGIN_S: Final = 1.0  # A request that was answered this long before the end was certainly asked before it.
PER_MINUTE: Final = 3
HERE: Final = "127.0.0.0/8"
ELSEWHERE: Final = "192.0.2.0/24"  # For documentation: nobody asks from there.


class Asker:
    """Somebody with a key."""

    def __init__(self, profile: Profile, secret: str) -> None:
        self._credentials = profile.credentials
        self._headers = {"authorization": f"Bearer {secret}"}

    def models(self) -> httpx.Response:
        """What the router says of its models."""
        return httpx.get(f"{self._credentials.router_url}/models", headers=self._headers, timeout=60, verify=NO_TLS)

    def chat(self, model: str = SERVED) -> httpx.Response:
        """One word of an answer."""
        body = {"model": model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 1}
        return httpx.post(
            f"{self._credentials.router_url}/chat/completions", headers=self._headers, json=body, timeout=60
        )

    def api(self) -> int:
        """How endpoint-api answers the key."""
        return httpx.get(
            f"{self._credentials.api_url}/v1/endpoints", headers=self._headers, timeout=60, verify=NO_TLS
        ).status_code

    def is_let_in(self) -> bool:
        """Whether the router knows the key and takes it."""
        return self.models().status_code == LET_IN


class Operator:
    """Who sets quotas and suspends."""

    def __init__(self, profile: Profile) -> None:
        key = json.loads(profile.home.credentials.read_text())["operator_key"]
        self._url = profile.credentials.api_url
        self._headers = {"authorization": f"Bearer {key}", "x-millrace-project": "acme"}

    def patch(self, path: str, body: dict[str, Any]) -> None:
        """Change something."""
        httpx.patch(
            f"{self._url}{path}", json=body, headers=self._headers, timeout=60, verify=NO_TLS
        ).raise_for_status()


@pytest.fixture
def run(profile: Profile, endpoints: dict[str, str]) -> Command:
    """The command, where there are endpoints."""
    assert endpoints
    return Command(profile)


@pytest.fixture
def asker(profile: Profile, endpoints: dict[str, str]) -> Asker:
    """The first key."""
    assert endpoints
    return Asker(profile, profile.credentials.key)


@pytest.fixture
def operator(profile: Profile, asker: Asker) -> Iterator[Operator]:
    """An operator, who leaves everything as it was."""
    operator = Operator(profile)
    yield operator
    operator.patch("/v1/tenants/acme", {"suspended": False})
    operator.patch("/v1/projects/default", {"quota": {}})
    wait_until(lambda: "x-ratelimit-limit-requests" not in asker.chat().headers, "a quota stays with the router")


def made(profile: Profile, **grants: Any) -> tuple[str, Asker]:
    """A key with these grants: its id, and who has it."""
    body = {"name": "for-a-test", "scopes": ["inference", "read"], **grants}
    document = profile.insist("POST", "/v1/keys", body=body)
    return document["id"], Asker(profile, document["key"])


def now_s() -> float:
    """What the clock of this machine, and so of every service here, says."""
    return SystemClock().now_ms() / 1000


def ended_by_snapshot(profile: Profile) -> int:
    """How many keys the router refuses because a snapshot said so, and the bus had not."""
    url = json.loads(profile.home.credentials.read_text())["router_admin_url"]
    lines = httpx.get(f"{url}/metrics", timeout=60, verify=NO_TLS).text.splitlines()
    return sum(int(float(each.split()[-1])) for each in lines if each.startswith("router_keys_ended_by_snapshot_total"))


def first_counted(asker: Asker) -> httpx.Response:
    """The first answer under a limit that was just set: the router counts none before it knows of the limit."""
    answers: list[httpx.Response] = []

    def is_counted() -> bool:
        answers.append(asker.chat())
        return "x-ratelimit-limit-requests" in answers[-1].headers

    wait_until(is_counted, "the router never heard of the limit")
    return answers[-1]


def test_a_revoked_key_is_refused_by_router_and_api(profile: Profile, asker: Asker) -> None:
    key_id, holder = made(profile)
    wait_until(holder.is_let_in, "the new key is never let in")
    assert holder.api() == LET_IN

    profile.insist("DELETE", f"/v1/keys/{key_id}")

    assert holder.api() == 401
    wait_until(lambda: not holder.is_let_in(), "the revoked key is still let in")
    assert holder.chat().status_code == 401
    assert asker.is_let_in()


def test_a_key_that_is_revoked_while_the_bus_stands_still_is_refused_and_stays_so(profile: Profile) -> None:
    key_id, holder = made(profile)
    wait_until(holder.is_let_in, "the new key is never let in")
    ended_before = ended_by_snapshot(profile)
    bus = profile.pid("nats")
    assert bus is not None

    os.kill(bus, signal.SIGSTOP)  # Connected and silent: worse than gone, for nobody is told so.
    try:
        profile.insist("DELETE", f"/v1/keys/{key_id}")
        began_s = now_s()
        wait_until(lambda: not holder.is_let_in(), "the revoked key is let in for as long as the bus is silent")
        print(f"refused {now_s() - began_s:.1f} s after it was revoked")
        assert ended_by_snapshot(profile) == ended_before + 1
    finally:
        os.kill(bus, signal.SIGCONT)

    profile.wait_until_healthy()
    assert not holder.is_let_in()


def test_an_old_key_works_until_its_time_and_says_when_it_was_used(profile: Profile) -> None:
    key_id, old = made(profile)
    wait_until(old.is_let_in, "the new key is never let in")

    successor = profile.insist("POST", f"/v1/keys/{key_id}/rotate", body={"overlap_s": OVERLAP_S})
    new = Asker(profile, successor["key"])
    ends_s = datetime.fromisoformat(profile.insist("GET", f"/v1/keys/{key_id}")["expires_at"]).timestamp()
    in_overlap = (old.models().status_code, old.api())
    was_in_time = now_s() < ends_s - MARGIN_S
    wait_until(lambda: not old.is_let_in(), "the old key outlives its overlap", timeout_s=OVERLAP_S + WAIT_S)
    refused_s = now_s()

    assert not was_in_time or in_overlap == (LET_IN, LET_IN)
    assert refused_s >= ends_s
    assert old.api() == 401
    wait_until(new.is_let_in, "the successor is not let in")
    wait_until(
        lambda: bool(profile.insist("GET", f"/v1/keys/{key_id}")["last_used_at"]), "nobody told that it was used"
    )


def test_a_key_of_one_endpoint_sees_no_other(profile: Profile, asker: Asker) -> None:
    _, holder = made(profile, scopes=["inference"], models=[SERVED])
    wait_until(holder.is_let_in, "the new key is never let in")

    assert [each["id"] for each in holder.models().json()["data"]] == [SERVED]
    assert holder.chat().status_code == LET_IN
    other, none = holder.chat(BILLED), holder.chat("no-such-endpoint")
    assert (other.status_code, none.status_code) == (404, 404)
    assert other.json()["error"]["message"].replace(BILLED, "") == none.json()["error"]["message"].replace(
        "no-such-endpoint", ""
    )
    assert BILLED in {each["id"] for each in asker.models().json()["data"]}


def test_a_key_works_only_from_where_it_may_be_used(profile: Profile) -> None:
    _, here = made(profile, allowed_ips=[ELSEWHERE, HERE])
    _, elsewhere = made(profile, allowed_ips=[ELSEWHERE])

    wait_until(here.is_let_in, "a key is refused where it may be used")

    assert here.api() == LET_IN
    assert (elsewhere.models().status_code, elsewhere.chat().status_code, elsewhere.api()) == (401, 401, 401)


def test_an_endpoint_takes_exactly_its_requests_a_minute(run: Command, asker: Asker) -> None:
    assert run("endpoints", "update", SERVED, "--rpm", str(PER_MINUTE), "--wait").code == 0
    try:
        answers = [first_counted(asker), *(asker.chat() for _ in range(PER_MINUTE))]
    finally:
        assert run("endpoints", "update", SERVED, "--rpm", "0", "--wait").code == 0

    assert [each.status_code for each in answers] == [LET_IN] * PER_MINUTE + [429]
    left = [int(each.headers["x-ratelimit-remaining-requests"]) for each in answers]
    assert left == [*reversed(range(PER_MINUTE)), 0]
    refused = answers[-1]
    assert 1 <= int(refused.headers["retry-after"]) <= 61
    assert refused.headers["x-ratelimit-limit-requests"] == str(PER_MINUTE)
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    wait_until(lambda: asker.chat().status_code == LET_IN, "a limit that was taken away still holds")


def test_a_project_takes_exactly_its_requests_a_minute(operator: Operator, asker: Asker) -> None:
    operator.patch("/v1/projects/default", {"quota": {"requests_per_minute": PER_MINUTE}})
    first = first_counted(asker)

    rest = [asker.chat() for _ in range(PER_MINUTE)]

    assert first.headers["x-ratelimit-limit-requests"] == str(PER_MINUTE)
    assert [each.status_code for each in (first, *rest)] == [LET_IN] * PER_MINUTE + [429]
    assert int(rest[-1].headers["retry-after"]) >= 1


def test_a_key_takes_exactly_its_requests_a_minute_and_others_go_on(profile: Profile, asker: Asker) -> None:
    _, bound = made(profile, limits={"requests_per_minute": PER_MINUTE})
    wait_until(bound.is_let_in, "a new key is refused")

    answers = [bound.chat() for _ in range(PER_MINUTE + 1)]

    assert [each.status_code for each in answers] == [LET_IN] * PER_MINUTE + [429]
    assert answers[0].headers["x-ratelimit-limit-requests"] == str(PER_MINUTE)
    assert asker.chat().status_code == LET_IN


def test_a_suspended_tenant_is_refused_everywhere_until_it_is_let_in_again(operator: Operator, asker: Asker) -> None:
    assert (asker.chat().status_code, asker.api()) == (LET_IN, LET_IN)

    operator.patch("/v1/tenants/acme", {"suspended": True})
    wait_until(lambda: asker.chat().status_code == 429, "a suspended tenant is served")
    suspended = (asker.chat().status_code, asker.api())
    operator.patch("/v1/tenants/acme", {"suspended": False})

    assert suspended == (429, 403)
    wait_until(lambda: asker.chat().status_code == LET_IN, "it is not served again")
    assert asker.api() == LET_IN
