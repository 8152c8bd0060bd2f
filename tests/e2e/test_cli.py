"""Every verb of `millrace` as people and programs use it: tables on a terminal of 100 columns, JSON for the rest."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from tests.e2e.command import COLUMNS, Loaded, Said, millrace
from tests.e2e.conftest import BILLED, SERVED
from tests.e2e.local_profile import Profile, wait_until
from tests.support.web import NO_TLS

pytestmark = pytest.mark.xdist_group("profile")

NAME: Final = "from-the-command-line-with-a-long-name"


class Command:
    """The command, with the shared profile's state directory."""

    def __init__(self, profile: Profile, run: Callable[..., Said] | None = None) -> None:
        self._run = run or partial(millrace, profile.home.path)

    def __call__(self, *arguments: str) -> Said:
        return self._run(*arguments)

    def json(self, *arguments: str) -> Any:
        """The answer for programs."""
        return self(*arguments, "--output", "json").json

    def lines(self, *arguments: str) -> list[str]:
        """The answer for people, without the spaces at the ends; fails if a line is too long for the terminal."""
        said = self(*arguments)
        assert (said.code, said.err) == (0, "")
        lines = [each.rstrip() for each in said.out.splitlines()]
        assert max(map(len, lines)) <= COLUMNS
        return lines


@contextmanager
def loaded(profile: Profile, scratch: Path) -> Iterator[Command]:
    """The same for many commands: loaded once."""
    typed = Loaded(profile.home.path, scratch)
    yield Command(profile, typed)
    typed.close()


@pytest.fixture(scope="module")
def run(profile: Profile, endpoints: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """The command, where there are endpoints."""
    assert endpoints
    with loaded(profile, tmp_path_factory.mktemp("said")) as command:
        yield command


def cells(lines: list[str], name: str) -> list[str]:
    """The row of a table that begins with this name, cut at its gaps."""
    (row,) = [each for each in lines if each.startswith(f"{name} ")]
    return [each for each in row.split("  ") if each.strip()]


def test_an_endpoint_lives_and_ends_at_the_command_line(run: Command, profile: Profile) -> None:
    spec = ("--model", "millrace/ngram-1-large", "--tier", "h100-dedicated", "--region", "us-1", "--max", "2")

    created = run.lines("endpoints", "create", NAME, *spec, "--wait")
    endpoint = run.json("endpoints", "get", NAME)
    watched = run.lines("endpoints", "watch", NAME)
    listed = run.lines("endpoints", "list")

    assert created == [each for each in created if each.startswith(("✓ ", "● "))]
    assert created[-1].split() == ["●", "ready", "requests", "are", "served"]
    assert watched == created
    assert endpoint["status"]["stage"] == "ready"
    assert endpoint["spec"]["scaling"] == {"min": 1, "max": 2, "target_concurrency": 8, "idle_to_zero_s": None}
    assert endpoint["id"] in " ".join(listed)
    assert {each.split()[0] for each in listed[1:]} >= {SERVED, BILLED}

    ended = run.json("endpoints", "delete", NAME, "--wait")

    assert (ended["id"], ended["status"]["stage"]) == (endpoint["id"], "deleted")
    assert NAME not in [each["name"] for each in run.json("endpoints", "list")["items"]]
    assert run("endpoints", "get", NAME).trouble == "no such endpoint in this project (404, not_found)"
    assert run.json("endpoints", "get", endpoint["id"])["status"]["stage"] == "deleted"
    assert NAME not in profile.client.models()


def test_get_says_what_to_know_of_an_endpoint(run: Command, profile: Profile, endpoints: dict[str, str]) -> None:
    lines = run.lines("endpoints", "get", SERVED)

    said = dict(each.split(maxsplit=1) for each in lines[: lines.index("")])
    assert said["id"] == endpoints[SERVED]
    assert said["model"] == "millrace/ngram-1 (warm)"
    assert said["where"] == "l40s-dedicated in eu-1"
    assert said["replicas"] == "1 of 1 ready (min 1, max 1)"
    assert said["url"] == profile.credentials.router_url  # What goes into a client's `base_url`.
    assert lines[-1].startswith("● ready")


def test_a_listing_has_one_line_for_each_endpoint(run: Command, endpoints: dict[str, str]) -> None:
    lines = run.lines("endpoints", "list")

    assert lines[0].split() == ["NAME", "ID", "STAGE", "READY", "MODEL", "TIER", "REGION"]
    for name, endpoint_id in endpoints.items():
        row = [each.strip() for each in cells(lines, name)]
        assert row == [name, endpoint_id, "ready", "1/1", "millrace/ngram-1", "l40s-dedicated", "eu-1"]


def test_a_chat_is_streamed_to_people_and_whole_for_programs(run: Command) -> None:
    *answer, blank, counted = run("chat", SERVED, "What is a millrace?", "--max-tokens", "5").out.splitlines()
    whole = run.json("chat", SERVED, "What is a millrace?", "--max-tokens", "5")

    assert "".join(answer)
    counted, _, receipt = counted.partition("; receipt: ")
    assert (blank, counted.split()[1:]) == ("", ["prompt", "tokens,", "5", "answer", "tokens"])
    assert receipt.startswith("millrace usage request req-")
    assert whole["content"]
    assert whole["usage"]["completion_tokens"] == 5


@pytest.fixture
def a_key(run: Command) -> Iterator[dict[str, Any]]:
    """A key that may ask, made at the command line."""
    made: dict[str, Any] = run.json("keys", "create", "for-a-test", "--scope", "inference")
    yield made
    run("keys", "revoke", made["id"])


def test_a_revoked_key_is_refused_by_the_router(run: Command, profile: Profile, a_key: dict[str, Any]) -> None:
    def status() -> int:
        headers = {"authorization": f"Bearer {a_key['key']}"}
        return httpx.get(
            f"{profile.credentials.router_url}/models", headers=headers, timeout=30, verify=NO_TLS
        ).status_code

    wait_until(lambda: status() == 200, "the new key is never let in")

    revoked = run.json("keys", "revoke", a_key["id"])

    wait_until(
        lambda: status() == 401, "the revoked key is still let in"
    )  # How soon: `python -m tests.bench revocation`.
    assert revoked["revoked_at"]


def test_keys_are_listed_without_their_secrets(run: Command, profile: Profile, a_key: dict[str, Any]) -> None:
    lines = run.lines("keys", "list")
    listed = run.json("keys", "list")["items"]

    assert lines[0].split() == ["ID", "NAME", "SCOPES", "CREATED", "LAST", "USED", "ENDS"]
    assert cells(lines, a_key["id"])[1:3] == ["for-a-test", "inference"]
    assert {"bootstrap", "for-a-test"} <= {each["name"] for each in listed}
    for secret in (a_key["key"], profile.credentials.key):
        assert secret not in json.dumps(listed) + "".join(lines)


def test_a_new_key_stands_whole_on_a_line_of_its_own(run: Command, profile: Profile) -> None:
    first, second = millrace(profile.home.path, "keys", "create", "narrow", columns=40).out.splitlines()

    assert httpx.get(
        f"{profile.credentials.router_url}/models", headers={"authorization": f"Bearer {first}"}
    ).is_success
    assert "keep it now" in second
    assert run("keys", "revoke", second.split()[1].rstrip(";")).code == 0


def test_usage_is_the_ledger_in_a_line_for_each_endpoint(run: Command, endpoints: dict[str, str]) -> None:
    run("chat", SERVED, "hello", "--max-tokens", "2")

    def asked() -> int:
        found = run.json("usage", "--endpoint", endpoints[SERVED])["items"]
        return sum(each["quantity"] for each in found if each["meter"] == "requests")

    wait_until(lambda: asked() > 0, "the request never came to the ledger")
    lines = run.lines("usage")

    head = " ".join(" ".join(lines).partition("ep-")[0].split())
    for word in ("ENDPOINT", "REQUESTS", "TOKENS", "IN", "OUT", "LOADING", "SERVING", "DRAINING"):
        assert word in head
    row = cells(lines, endpoints[SERVED])
    assert len(row) >= 8  # More where time was held for nobody.
    assert (row[-2].strip(), row[-1].split()[-1]) == ("0 s", "USD")
    assert run("usage", "--endpoint", "ep-aaaaaaaaaa").out == "nothing was used\n"
    assert {each["endpoint_id"] for each in run.json("usage", "--endpoint", SERVED)["items"]} == {endpoints[SERVED]}
    assert "no such endpoint" in run("usage", "--endpoint", "nowhere").trouble


def test_events_are_read_in_order_one_a_line(run: Command, endpoints: dict[str, str]) -> None:
    said = run("events", "tail", "--output", "json")
    told = [json.loads(each) for each in said.out.splitlines()]
    (asked,) = [
        each for each in told if each["type"] == "endpoint.requested.v1" and each["subject"] == endpoints[SERVED]
    ]
    lines = run("events", "tail", "--from-sequence", str(asked["stream_sequence"])).out.splitlines()

    places = [each["stream_sequence"] for each in told]
    assert places == sorted(set(places))
    assert asked["data"]["name"] == SERVED
    assert lines[0].split()[0] == str(asked["stream_sequence"])
    assert lines[0].split()[2:4] == ["endpoint.requested.v1", endpoints[SERVED]]
    assert f"name={SERVED}" in lines[0]


def test_tiers_and_models_say_what_can_be_had(run: Command) -> None:
    tiers, models = run.lines("tiers"), run.lines("models")

    assert [each.strip() for each in cells(tiers, "l40s-dedicated")][:5] == [
        "l40s-dedicated", "L40S", "1", "up to 16", "eu-1, us-1",
    ]  # fmt: skip
    assert [each.strip() for each in cells(models, "millrace/ngram-1-large")][:3] == [
        "millrace/ngram-1-large", "1 GiB", "8,192 tokens",
    ]  # fmt: skip
    assert {each.split()[0] for each in tiers[1:]} >= {
        "h100-dedicated", "h100-private", "l40s-dedicated", "l40s-sandboxed", "l40s-shared", "l40s-tenant",
    }  # fmt: skip
    assert {each.split()[0] for each in models[1:]} >= {"millrace/ngram-1", "millrace/ngram-1-large"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("endpoints create Bad --model millrace/ngram-1 --tier l40s-dedicated", "name: must be 1 to 40"),
        (f"endpoints create {SERVED} --model millrace/ngram-1 --tier l40s-dedicated", "choose another"),
        ("keys revoke aaaaaaaaaa", "no such key in this project (404, not_found)"),
        ("chat nobody hello", "The model `nobody` does not exist"),
        ("events tail --stream NONE", "no stream NONE"),
    ],
)
def test_what_is_refused_is_said_in_one_line_that_says_what_to_do(run: Command, arguments: str, says: str) -> None:
    assert says in run(*arguments.split()).trouble


def test_without_credentials_or_a_service_it_says_where_to_get_one(profile: Profile, run: Command) -> None:
    nowhere = profile.home.path / "nowhere"
    elsewhere = {"MILLRACE_API_URL": "http://127.0.0.1:1", "MILLRACE_API_KEY": "x"}

    assert "run `millrace up`" in millrace(nowhere, "endpoints", "list").trouble
    unanswered = millrace(nowhere, "endpoints", "list", more=elsewhere)
    assert (unanswered.code, "can't be reached" in unanswered.trouble) == (3, True)
    router = {"MILLRACE_API_URL": profile.credentials.router_url, "MILLRACE_API_KEY": profile.credentials.key}
    assert "Invalid URL" in millrace(nowhere, "endpoints", "list", more=router).trouble
    assert [each["ready"] for each in run.json("status")] == [True] * 8
