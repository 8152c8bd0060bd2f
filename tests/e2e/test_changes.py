"""An endpoint's middle life at the command line: changed, scaled, paused, brought back; and who did all that."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.command import millrace
from tests.e2e.local_profile import Profile, wait_until
from tests.e2e.test_cli import Command, loaded

pytestmark = [pytest.mark.xdist_group("profile"), pytest.mark.chaos]

NAME = "changing"


@pytest.fixture(scope="module")
def run(profile: Profile, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """The command, with the shared profile."""
    with loaded(profile, tmp_path_factory.mktemp("said")) as command:
        yield command


@pytest.fixture
def changing(run: Command) -> Iterator[dict[str, Any]]:
    """An endpoint of a test's own, gone at its end."""
    spec = ("--model", "millrace/ngram-1", "--tier", "l40s-dedicated", "--max", "2")
    yield run.json("endpoints", "create", NAME, *spec, "--wait")
    assert run("endpoints", "delete", NAME, "--wait").code == 0


def held(profile: Profile, endpoint_id: str) -> list[str]:
    """What the simulated cloud holds for an endpoint, by kind."""
    inventory = profile.inventory()
    kinds = ("clusters", "claims", "objects", "pods", "processes")
    return sorted(kind for kind in kinds for each in inventory[kind] if endpoint_id in json.dumps(each))


def model_asked(run: Command) -> str:
    """A word from the endpoint, so that we know it serves."""
    answer = run.json("chat", NAME, "What is a millrace?", "--max-tokens", "3")
    return str(answer["content"])


def test_an_update_is_served_under_the_same_name_and_nothing_of_the_old_is_left(
    run: Command, profile: Profile, changing: dict[str, Any]
) -> None:
    assert model_asked(run)
    done = run.json("endpoints", "update", NAME, "--model", "millrace/ngram-1-large", "--wait")

    assert (done["status"]["stage"], done["spec"]["model"]) == ("ready", "millrace/ngram-1-large")
    assert done["status"]["generation"] == changing["status"]["generation"] + 1
    assert model_asked(run)
    wait_until(lambda: held(profile, changing["id"]).count("processes") == 1, "the old model server still runs")


def test_a_change_on_top_of_an_unseen_one_is_refused(run: Command, changing: dict[str, Any]) -> None:
    seen = changing["status"]["generation"]
    assert run("endpoints", "scale", NAME, "--max", "3", "--wait").code == 0

    refused = run("endpoints", "update", NAME, "--rpm", "5", "--if-generation", str(seen))

    assert "412" in refused.trouble


def test_a_paused_endpoint_holds_nothing_and_comes_back(
    run: Command, profile: Profile, changing: dict[str, Any]
) -> None:
    paused = run.json("endpoints", "pause", NAME, "--drain-deadline", "1", "--wait")

    assert (paused["status"]["stage"], paused["status"]["url"]) == ("paused", None)
    assert held(profile, changing["id"]) == []
    assert run("chat", NAME, "hello").code == 1

    back = run.json("endpoints", "resume", NAME, "--wait")

    assert back["status"]["stage"] == "ready"
    wait_until(lambda: run("chat", NAME, "hello", "--max-tokens", "2").code == 0, "it is ready but does not serve")
    verbs = [each["verb"] for each in run.json("operations", "list", "--endpoint", NAME)["items"]]
    assert sorted(verbs) == ["create", "pause", "resume"]


def test_a_dry_run_says_what_would_happen_and_changes_nothing(run: Command, changing: dict[str, Any]) -> None:
    before = run.json("endpoints", "get", NAME)

    said = run.lines("endpoints", "update", NAME, "--model", "millrace/ngram-1-large", "--dry-run")

    assert said
    after = run.json("endpoints", "get", NAME)
    assert (after["spec"], after["status"]["generation"]) == (before["spec"], before["status"]["generation"])


def test_the_audit_has_every_change_and_is_whole(run: Command, changing: dict[str, Any]) -> None:
    rows = run.json("audit", "list", "--limit", "200")["items"]
    verified = run("audit", "verify")

    assert [each["action"] for each in rows if each["target"] == changing["id"]] == ["create_endpoint"]
    assert verified.code == 0, verified
    assert "nothing was edited" in verified.out


def test_credentials_are_saved_where_only_their_owner_reads_them(
    run: Command, profile: Profile, tmp_path: Path
) -> None:
    config = {"MILLRACE_CONFIG": str(tmp_path / "profiles.json")}
    key = tmp_path / "key"
    key.write_text(profile.credentials.key)
    nowhere = tmp_path / "nowhere"

    added = millrace(
        nowhere, "profiles", "add", "here", "--api-url", profile.credentials.api_url, more=config, stdin=key.read_text()
    )
    listed = millrace(nowhere, "profiles", "list", "--output", "json", more=config)
    used = millrace(nowhere, "--profile", "here", "endpoints", "list", more=config)
    unknown = millrace(nowhere, "--profile", "there", "endpoints", "list", more=config)

    assert (added.code, used.code) == (0, 0), (added, used)
    assert [each["name"] for each in listed.json["items"]] == ["here"]
    assert profile.credentials.key not in listed.out
    assert "there is no profile there; there are: here" in unknown.trouble
    assert (tmp_path / "profiles.json").stat().st_mode & 0o777 == 0o600
