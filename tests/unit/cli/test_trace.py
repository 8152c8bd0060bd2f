"""What `millrace trace` says of the links between an endpoint's URL and its pods."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from libs.cli.trace import breaks, links, pods
from tests.unit.cli.test_output import drawn

POD = {
    "name": "ep-a-1", "node": "gpu-1", "url": "http://10.0.0.1:8000", "recipe": "r1", "is_newest": True, "serves": True,
    "terminating": False, "adapters": ["tone"], "restarts": 0,
}  # fmt: skip
RUNTIME = {
    "stage": "serving", "generation": 3, "platform_project": "mr-acme-default", "cluster": "ep-a",
    "namespace": "inference", "tenancy": "private_nodes", "node_type": "terraform.gpu-l40s", "gpus_per_replica": 1,
    "template": "vllm@1", "image": "millrace/model-server:1", "model": "millrace/ngram-1",
    "model_digest": "sha256:0123456789abcdef", "recipe": "r1", "delay": "", "pods": [POD],
}  # fmt: skip
ROUTE = {
    "generation": 3, "paused": False, "replacing": False, "adapters": ["tone"],
    "replicas": [{"name": "ep-a-1", "url": "http://10.0.0.1:8000"}],
}  # fmt: skip


def found(*, route: Any = ROUTE, **runtime: Any) -> dict[str, Any]:
    endpoint = {
        "id": "ep-a", "name": "chat", "spec": {"tier": "l40s-dedicated", "region": "eu-1"},
        "status": {"stage": "ready", "url": "http://127.0.0.1:8800/v1"},
    }  # fmt: skip
    return {"endpoint": endpoint, "route": route, "runtime": {**RUNTIME, **runtime}}


def words(what: Table | str) -> str:
    assert isinstance(what, Table)
    return "\n".join(drawn(what, width=160))


def test_every_link_is_named_from_the_url_to_the_pod() -> None:
    said = words(links(found())) + words(pods(found()))

    for each in (
        "http://127.0.0.1:8800/v1",
        "generation 3",
        "mr-acme-default",
        "terraform.gpu-l40s",
        "vllm@1",
        "gpu-1",
    ):
        assert each in said, each
    assert "routed" in said
    assert breaks(found()) == []


def test_a_route_to_where_no_pod_is_and_a_pod_that_no_route_leads_to_are_breaks() -> None:
    elsewhere = {**ROUTE, "replicas": [{"name": "ep-a-0", "url": "http://10.0.0.9:8000"}]}

    lines = breaks(found(route=elsewhere))

    assert lines == [
        "the route leads to ep-a-0 at http://10.0.0.9:8000, and no pod is there",
        "ep-a-1 serves at http://10.0.0.1:8000, and no route leads there",
    ]


def test_owners_that_speak_of_different_generations_are_a_break() -> None:
    assert breaks(found(generation=4)) == ["the route is of generation 3, the runtime of 4"]


def test_what_is_not_routed_says_so() -> None:
    said = words(links(found(route=None)))

    assert "none: nobody is let in" in said
