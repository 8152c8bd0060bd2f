"""Day 1 in one place: what an operator tries before the first customer comes, from outside, in the seed's order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest

from tests.e2e.local_profile import Profile, wait_until
from tests.e2e.test_cli import Command, loaded

pytestmark = [pytest.mark.chaos, pytest.mark.xdist_group("rollouts")]

NAME: Final = "day-one"
LARGE: Final = "millrace/ngram-1-large"


@pytest.fixture(scope="module")
def run(rolling: Profile, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Command]:
    """The command of an operator."""
    with loaded(rolling, tmp_path_factory.mktemp("said")) as command:
        yield command


@pytest.fixture(scope="module")
def made(run: Command) -> dict[str, Any]:
    """The endpoint of this day: created and warm."""
    spec = ("--model", "millrace/ngram-1", "--tier", "l40s-dedicated", "--max", "2", "--template", "vllm@4")
    found: dict[str, Any] = run.json("endpoints", "create", NAME, *spec, "--wait")
    return found


def ask(profile: Profile, *, key: str | None, model: str = NAME) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"} if key else {}
    body = {"model": model, "messages": [{"role": "user", "content": "What is a millrace?"}], "max_tokens": 3}
    return httpx.post(f"{profile.credentials.router_url}/chat/completions", json=body, headers=headers, timeout=60)


def test_1_authorised_traffic_is_taken_and_other_traffic_refused(rolling: Profile, made: dict[str, Any]) -> None:
    assert made["status"]["stage"] == "ready"
    assert ask(rolling, key=rolling.credentials.key).status_code == 200
    assert ask(rolling, key=None).status_code == 401
    assert ask(rolling, key=rolling.credentials.key[:-1] + "x").status_code == 401
    assert ask(rolling, key=rolling.credentials.key, model="nobodys").status_code == 404


def test_2_its_model_is_healthy_and_its_metrics_are_told(rolling: Profile, run: Command, made: dict[str, Any]) -> None:
    status = run.json("endpoints", "get", NAME)["status"]
    (pod,) = run.json("trace", NAME)["runtime"]["pods"]
    seen = httpx.get(f"{pod['url']}/metrics", timeout=30).text
    board = httpx.get(f"{rolling.credentials.router_admin_url}/endpoints", timeout=30).json()["endpoints"]

    assert (status["model_state"], status["replicas"]["ready"]) == ("warm", 1)
    assert httpx.get(f"{pod['url']}/health", timeout=30).status_code == 200
    assert "vllm:time_to_first_token_seconds" in seen
    assert [each["finishes"] for each in board if each["endpoint_id"] == made["id"]], "the router counts its requests"


def test_3_it_is_traced_back_to_cluster_node_type_template_and_route(run: Command, made: dict[str, Any]) -> None:
    found = run.json("trace", NAME)
    table = run("trace", NAME).out
    print(table)

    runtime = found["runtime"]
    assert (runtime["cluster"], runtime["node_type"], runtime["template"]) == (
        made["id"], "terraform.gpu-l40s", "vllm@4",
    )  # fmt: skip
    assert [each["url"] for each in found["route"]["replicas"]] == [each["url"] for each in runtime["pods"]]
    assert found["breaks"] == []
    assert "routed" in table


def test_4_it_scales_and_changes_model_and_adapter_under_the_same_name(
    rolling: Profile, run: Command, made: dict[str, Any]
) -> None:
    run.json("endpoints", "scale", NAME, "--min", "2", "--max", "2", "--wait")
    wait_until(lambda: _ready(run) == 2, "never two replicas")
    run.json("endpoints", "scale", NAME, "--min", "1", "--max", "1", "--wait")
    wait_until(lambda: _ready(run) == 1, "never one replica again")

    changed = run.json("endpoints", "update", NAME, "--model", LARGE, "--wait")
    tuned = run.json("endpoints", "update", NAME, "--adapter", "tone=acme/tone-lora:16", "--wait")

    assert (changed["spec"]["model"], changed["id"], tuned["id"]) == (LARGE, made["id"], made["id"])
    assert ask(rolling, key=rolling.credentials.key).status_code == 200
    assert ask(rolling, key=rolling.credentials.key, model=f"{NAME}/tone").status_code == 200
    assert ask(rolling, key=rolling.credentials.key, model=f"{NAME}/other").status_code == 404


def test_4b_a_model_that_its_node_has_is_not_downloaded_again_and_operators_see_why(
    rolling: Profile, run: Command, made: dict[str, Any]
) -> None:
    back = run.json("endpoints", "update", NAME, "--model", "millrace/ngram-1", "--wait")
    print(run("caches").out)
    (pod,) = run.json("trace", NAME)["runtime"]["pods"]
    (cache,) = (each for each in run.json("caches")["caches"] if each["name"] == pod["node"])
    (there,) = (each["models"] for each in rolling.inventory()["caches"] if each["name"] == pod["node"])

    said = {each["name"]: each["message"] for each in back["status"]["stages"]}
    assert said["downloading_model"] == "the model was in the cache: nothing was downloaded"
    assert cache["hits"] == 1
    assert {each["digest"]: each["size_bytes"] for each in cache["models"]} == there
    assert {each["kept_for"] for each in cache["models"]} == {made["id"]}


def test_5_credentials_rotate_with_overlap_and_die_when_revoked(rolling: Profile, run: Command) -> None:
    old = run.json("keys", "create", "day-one", "--scope", "inference")
    wait_until(lambda: ask(rolling, key=old["key"]).status_code == 200, "a new key never worked")
    new = run.json("keys", "rotate", old["id"], "--overlap", "60")
    wait_until(lambda: ask(rolling, key=new["key"]).status_code == 200, "its successor never worked")

    assert ask(rolling, key=old["key"]).status_code == 200
    run.json("keys", "revoke", old["id"])
    wait_until(lambda: ask(rolling, key=old["key"]).status_code == 401, "a revoked key still works")
    assert ask(rolling, key=new["key"]).status_code == 200


def test_6_it_drains_and_goes_and_everything_is_given_back(
    rolling: Profile, run: Command, made: dict[str, Any]
) -> None:
    drained = run.json("endpoints", "drain", NAME, "--deadline", "5", "--wait")
    assert drained["status"]["stage"] == "paused"
    assert ask(rolling, key=rolling.credentials.key).status_code == 503

    assert run("endpoints", "delete", NAME, "--wait").code == 0

    inventory = rolling.inventory()
    for kind in ("clusters", "claims", "nodes", "objects", "pods", "processes"):
        assert made["id"] not in str(inventory[kind]), kind
    assert ask(rolling, key=rolling.credentials.key).status_code == 404


def _ready(run: Command) -> int:
    return int(run.json("endpoints", "get", NAME)["status"]["replicas"]["ready"])
