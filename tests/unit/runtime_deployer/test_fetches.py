"""What a fetch says of itself, and that one which can't be heard holds nothing up."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, cast

import pytest

from libs.common.errors import Unavailable
from services.runtime_deployer.core.observed import FETCH, ContainerSeen, FetchSeen, PodSeen
from services.runtime_deployer.core.state import Cluster
from services.runtime_deployer.shell.connections import Connections, Reply
from services.runtime_deployer.shell.fetches import SKIPPED, Fetches, fetch_seen
from tests.unit.runtime_deployer.a_runtime import RUNNING, TERMINATED, a_pod

CLUSTER = Cluster("p", "c")


@dataclass
class Logs:
    """In the place of connections: answers every log with the same, or not at all."""

    reply: Reply | None = None
    asked: list[str] = field(default_factory=list)

    def ask(self, cluster: Cluster, method: str, path: str, **more: Any) -> Reply:
        assert (cluster, method) == (CLUSTER, "GET")
        assert more["query"] == {"container": FETCH, "tailLines": "1", "limitBytes": "1000"}
        self.asked.append(path)
        if self.reply is None:
            raise Unavailable("no answer", code="no_answer")
        return self.reply


def fetching(**changes: Any) -> PodSeen:
    return a_pod(init=[ContainerSeen(name=FETCH, image="i", **{"state": RUNNING, **changes})])


def looks(logs: Logs, pod: PodSeen, count: int) -> list[FetchSeen | None]:
    fetches = Fetches(cast(Connections, logs), "/pods")
    return [fetches.add_to(CLUSTER, [pod])[0].fetched for _ in range(count)]


def test_a_fetch_that_runs_is_heard_by_the_last_line_of_its_log() -> None:
    logs = Logs(Reply(200, {"state": "downloading", "bytes_done": 47, "bytes_total": 100}))

    assert looks(logs, fetching(), 2) == [FetchSeen(bytes_done=45, bytes_total=100)] * 2
    assert logs.asked == ["/pods/p1/log"] * 2


@pytest.mark.parametrize("reply", [None, Reply(403, {}), Reply(500, {})])
def test_one_that_cannot_be_heard_is_left_alone_for_a_while(reply: Reply | None) -> None:
    logs = Logs(reply)

    assert looks(logs, fetching(), SKIPPED + 2) == [None] * (SKIPPED + 2)
    assert len(logs.asked) == 2


def test_what_was_last_heard_stays_while_nothing_is() -> None:
    logs = Logs(Reply(200, {"bytes_done": 50, "bytes_total": 100}))
    fetches = Fetches(cast(Connections, logs), "/pods")
    fetches.add_to(CLUSTER, [fetching()])
    logs.reply = None

    (pod,) = fetches.add_to(CLUSTER, [fetching()])

    assert pod.fetched == FetchSeen(bytes_done=50, bytes_total=100)


def test_one_that_ended_well_says_it_without_a_request() -> None:
    said = json.dumps({"state": "done", "bytes_done": 100, "bytes_total": 100, "bytes_fetched": 0})
    logs = Logs()

    found = looks(logs, fetching(state=TERMINATED, exit_code=0, message=said), 1)

    assert found == [FetchSeen(bytes_done=100, bytes_total=100, bytes_fetched=0)]
    assert not logs.asked


@pytest.mark.parametrize(
    "line",
    [
        {},
        {"bytes_done": 1},
        {"bytes_done": "1", "bytes_total": 2},
        {"bytes_done": 3, "bytes_total": 2},
        {"bytes_done": 0, "bytes_total": 0},
    ],
)
def test_a_line_that_says_nothing_of_it_is_nothing(line: dict[str, Any]) -> None:
    assert fetch_seen(line) is None
