"""The way to the Platform: a key that changes, a circuit that opens, a watch that loses its place."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from libs.common.errors import Unavailable
from services.capacity_manager.shell.platform import Breaker, PlatformClient
from services.capacity_manager.shell.platform.breaker import CALLS_MIN, PROBE_S, WINDOW_S
from services.capacity_manager.shell.platform.following import follow

Json = dict[str, Any]
THINGS = "/things"
THING: Json = {"metadata": {"name": "a", "resourceVersion": "7", "labels": {"millrace.dev/endpoint": "ep-a"}}}


class Watch:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def a_client(
    tmp_path: Path, answer: Callable[[httpx.Request], httpx.Response], breaker: Breaker | None = None
) -> PlatformClient:
    (tmp_path / "key").write_text("old")
    return PlatformClient(
        url="https://platform", key_file=tmp_path / "key", transport=httpx.MockTransport(answer), breaker=breaker
    )


def test_a_key_that_was_rotated_under_a_request_is_read_again_before_it_counts_as_refused(tmp_path: Path) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.headers["authorization"])
        if len(asked) == 1:  # The operator writes the new key and revokes the old one just now.
            (tmp_path / "key").write_text("new")
        return httpx.Response(200, json=THING) if asked[-1] == "Bearer new" else httpx.Response(401, json={})

    found = a_client(tmp_path, answer).get(THINGS, "a")

    assert found == THING
    assert asked == ["Bearer old", "Bearer new"]


def test_a_key_that_did_not_change_is_refused_after_one_request(tmp_path: Path) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.path)
        return httpx.Response(401, json={})

    with pytest.raises(Unavailable) as caught:
        a_client(tmp_path, answer).get(THINGS, "a")

    assert caught.value.code == "PlatformUnauthorized"
    assert len(asked) == 1


def tried(client: PlatformClient) -> str:
    try:
        client.get(THINGS, "a")
    except Unavailable as trouble:
        return str(trouble)
    return "ok"


def test_a_platform_that_fails_too_often_is_left_alone_and_one_probe_at_a_time_finds_it_again(tmp_path: Path) -> None:
    clock, asked, is_up = Watch(), [0], False

    def answer(_: httpx.Request) -> httpx.Response:
        asked[0] += 1
        return httpx.Response(200, json=THING) if is_up else httpx.Response(503, json={"kind": "Status"})

    client = a_client(tmp_path, answer, Breaker(clock))
    for _ in range(CALLS_MIN + 5):
        tried(client)
    assert asked[0] == CALLS_MIN
    assert "failed too often" in tried(client)

    clock.now_s += PROBE_S
    assert "HTTP 503" in tried(client)
    assert "failed too often" in tried(client)
    assert asked[0] == CALLS_MIN + 1

    clock.now_s += PROBE_S
    is_up = True
    assert [tried(client) for _ in range(3)] == ["ok"] * 3


def test_refusals_do_not_open_the_circuit_and_old_failures_are_forgotten(tmp_path: Path) -> None:
    clock = Watch()
    statuses = iter([403] * 40 + [503] * (CALLS_MIN - 1) + [503] * (CALLS_MIN - 1))
    client = a_client(
        tmp_path, lambda _: httpx.Response(next(statuses), json={"kind": "Status", "message": "no"}), Breaker(clock)
    )

    first = [tried(client) for _ in range(40)]
    clock.now_s += 2 * WINDOW_S
    said = [tried(client) for _ in range(CALLS_MIN - 1)]
    clock.now_s += 2 * WINDOW_S
    said += [tried(client) for _ in range(CALLS_MIN - 1)]

    assert set(first) == {"no"}
    assert set(said) == {"the Platform answered HTTP 503"}


def test_an_open_circuit_says_when_to_ask_again(tmp_path: Path) -> None:
    clock = Watch()
    client = a_client(tmp_path, lambda _: httpx.Response(503), Breaker(clock))
    for _ in range(CALLS_MIN):
        tried(client)
    clock.now_s += 4

    with pytest.raises(Unavailable) as caught:
        client.get(THINGS, "a")

    assert caught.value.retry_after_s == PROBE_S - 4
    assert caught.value.code == "PlatformUnavailable"


def lines(*events: Json) -> httpx.Response:
    return httpx.Response(200, content="".join(json.dumps(each) + "\n" for each in events))


def bookmark(version: str) -> Json:
    return {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": version}}}


def test_following_goes_on_from_bookmarks_and_lists_again_when_its_place_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.capacity_manager.shell.platform.following.RETRY_FIRST_S", 0.0)
    ended, asked, told = threading.Event(), list[str](), list[str]()
    changed = {**THING, "metadata": {**THING["metadata"], "labels": {"millrace.dev/endpoint": "ep-b"}}}
    gone = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old"}
    watches = iter(
        [
            lines({"type": "MODIFIED", "object": changed}, bookmark("9")),
            lines({"type": "ERROR", "object": gone}),
            lines(bookmark("12")),
        ]
    )

    def answer(request: httpx.Request) -> httpx.Response:
        if "watch" not in request.url.params:
            asked.append("list")
            return httpx.Response(
                200, json={"kind": "ThingList", "metadata": {"resourceVersion": "5"}, "items": [THING]}
            )
        asked.append(f"watch {request.url.params['resourceVersion']}")
        if len(asked) == 5:
            ended.set()
        return next(watches)

    follow(a_client(tmp_path, answer), THINGS, told.append, ended)

    assert asked == ["list", "watch 5", "watch 9", "list", "watch 5"]
    assert told == ["ep-a", "ep-b", "ep-a"]


@pytest.mark.parametrize("line", ["<html>", '{"type": "MODIFIED", "obj', '{"type": "NEWS", "object": {}}', "[]"])
def test_a_watch_that_tells_no_changes_is_garbled(tmp_path: Path, line: str) -> None:
    client = a_client(tmp_path, lambda _: httpx.Response(200, content=line + "\n"))

    with pytest.raises(Unavailable) as caught:
        list(client.watch(THINGS, "1"))

    assert caught.value.code == "PlatformGarbled"
