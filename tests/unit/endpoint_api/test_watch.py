"""Watches: first how things stand, then every change once, across restarts, of one's own project only."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any, Final

import httpx
import pytest

from libs.common import web
from libs.common.errors import NotFound, QuotaExceeded
from libs.common.ids import event_id
from services.endpoint_api.core.caller import Ask, Caller
from services.endpoint_api.core.refusal import FieldRefused, Gone, Unauthorized
from services.endpoint_api.shell.feed import PROJECT_WATCHERS_MAX, QUEUE_MAX, Feed, Subscription
from services.endpoint_api.shell.owners import Homes
from services.endpoint_api.shell.secrets import Secrets
from services.endpoint_api.shell.verbs.watch import WatchVerbs
from tests.support.ports import free_port
from tests.support.web import NO_TLS
from tests.unit.endpoint_api.given import PROGRESS, SPEC, TEARDOWN, Stand, a_caller

Frame = dict[str, Any]
START_S: Final = 60.0  # A busy machine; it takes a few milliseconds.


class Scene:
    """endpoint-api, and watches of a feed that can be begun again as after a restart."""

    def __init__(self) -> None:
        self.stand = Stand()
        self.restart()

    def restart(self) -> None:
        feed = Feed(self.stand.store, Homes(self.stand.endpoints), poll_s=0.005)
        secrets = Secrets(self.stand.store, self.stand.entropy)
        self.watch = WatchVerbs(self.stand.api.endpoints, feed, secrets, heartbeat_s=0.2, recheck_s=0.02)

    def an_endpoint(self, name: str = "chat", tenant: str = "acme") -> str:
        self.stand.api.tenants.adopt(tenant, "main")
        made = self.stand.api.endpoints.create(Ask(a_caller(tenant), "req", f"make-{name}"), name=name, spec=SPEC)
        return str(made.endpoint_id)

    async def opened(self, ref: str = "", *, tenant: str = "acme", last_id: str = "") -> AsyncIterator[Frame]:
        caller = a_caller(tenant)
        subscription = await self.watch.open(caller, ref, last_id=last_id)
        return frames(self.watch.events(caller, subscription, last_id=last_id, still_good=lambda: caller))


async def frames(stream: AsyncIterator[bytes]) -> AsyncIterator[Frame]:
    """Server-sent events as their specification reads them."""
    async for chunk in stream:
        lines = [each for each in chunk.decode().split("\n") if each and not each.startswith(":")]
        if lines:
            frame: Frame = dict(each.split(": ", 1) for each in lines)
            yield {**frame, "data": json.loads(frame["data"])}


async def listening(port: int) -> None:
    """Return once somebody listens there."""
    async with asyncio.timeout(START_S):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.01)
            else:
                writer.close()
                return


async def take(stream: AsyncIterator[Frame], count: int) -> list[Frame]:
    async with asyncio.timeout(5):
        return [await anext(stream) for _ in range(count)]


def told(stand: Stand, kind: str) -> list[str]:
    return [
        each.message.id
        for each in stand.store.told(after=0).messages
        if each.message.headers.get("ce-type", "").startswith(kind)
    ]


async def test_a_watch_tells_how_things_stand_and_then_every_change_to_the_end() -> None:
    scene = Scene()
    endpoint_id = scene.an_endpoint()
    stream = await scene.opened("chat")
    present, ready = await take(stream, 2)
    scene.stand.hear(endpoint_id, PROGRESS)
    scene.stand.api.endpoints.delete(Ask(a_caller(), "req-2", "delete"), endpoint_id)
    scene.stand.hear(endpoint_id, TEARDOWN, generation=2, first=20)

    got = await take(stream, len(told(scene.stand, "endpoint.stage_changed")) + 1)

    assert (present["event"], ready["event"]) == ("endpoint.present", "watch.ready")
    assert present["data"]["status"]["stage"] == "requested"
    stages = [each["data"]["data"]["stage"] for each in got if each["event"] == "endpoint.stage_changed"]
    assert stages[0] == "waiting_for_capacity"
    assert "ready" in stages
    assert {"operation.finished", "endpoint.deletion_requested"} <= {each["event"] for each in got}
    rest = [each async for each in until(stream, "deleted")] if "deleted" not in stages else []
    assert "deleted" in stages or rest


async def until(stream: AsyncIterator[Frame], stage: str) -> AsyncIterator[Frame]:
    async with asyncio.timeout(5):
        async for frame in stream:
            yield frame
            if frame["data"].get("data", {}).get("stage") == stage:
                return


async def test_a_watch_resumes_without_a_loss_and_without_a_repeat_across_restarts() -> None:
    scene = Scene()
    stream = await scene.opened()
    (ready,) = await take(stream, 1)
    endpoint_id = scene.an_endpoint()
    seen: list[str] = []
    last_id = ready["id"]
    for index, event in enumerate(PROGRESS):
        scene.stand.hear(endpoint_id, (event,), first=index + 1)
        scene.restart()
        stream = await scene.opened(last_id=last_id)
        (frame,) = await take(stream, 1)
        last_id = frame["id"]
        seen.append(frame["data"]["id"])

    wanted = told(scene.stand, "endpoint.stage_changed")
    assert seen == wanted[: len(seen)]
    assert len(seen) == len(set(seen)) == len(PROGRESS)


async def test_what_is_told_while_a_watch_catches_up_comes_once() -> None:
    scene = Scene()
    stream = await scene.opened()
    (ready,) = await take(stream, 1)
    endpoint_id = scene.an_endpoint()
    scene.stand.hear(endpoint_id, PROGRESS[:4])
    resumed = await scene.opened(last_id=ready["id"])
    scene.stand.hear(endpoint_id, PROGRESS[4:], first=5)

    got = [each async for each in until(resumed, "ready")]

    ids = [each["data"]["id"] for each in got if each["event"] == "endpoint.stage_changed"]
    assert ids == told(scene.stand, "endpoint.stage_changed")


async def test_a_project_hears_nothing_of_another_and_can_not_use_its_positions() -> None:
    scene = Scene()
    theirs = await scene.opened(tenant="other")
    (ready,) = await take(theirs, 1)
    scene.stand.hear(scene.an_endpoint(), PROGRESS)
    scene.stand.hear(scene.an_endpoint("theirs", tenant="other"), PROGRESS[:1])

    (first,) = await take(theirs, 1)

    assert first["data"]["data"]["tenant_id"] == "other"
    with pytest.raises(FieldRefused):
        await scene.opened(last_id=ready["id"])
    with pytest.raises(NotFound):
        await scene.opened("chat", tenant="other")
    with pytest.raises(FieldRefused):
        await scene.opened(last_id="AAAA")


async def test_a_position_that_is_forgotten_is_gone() -> None:
    scene = Scene()
    stream = await scene.opened()
    (ready,) = await take(stream, 1)
    for count in range(3):
        scene.an_endpoint(f"chat-{count}")
    scene.stand.store._told.popleft()  # As a database that forgot its oldest messages.

    with pytest.raises(Gone, match="list anew"):
        await scene.opened(last_id=ready["id"])


async def test_a_watch_ends_when_its_key_is_revoked_and_says_so() -> None:
    scene = Scene()
    caller = a_caller()
    subscription = await scene.watch.open(caller)

    def revoked() -> Caller:
        raise Unauthorized("no")

    got = [each async for each in frames(scene.watch.events(caller, subscription, last_id="", still_good=revoked))]

    assert got[-1]["event"] == "watch.closed"
    assert got[-1]["data"]["code"] == "unauthorized"


async def test_a_slow_watcher_gets_what_it_was_given_is_told_and_can_resume() -> None:
    scene = Scene()
    stream = await scene.opened()
    (ready,) = await take(stream, 1)
    subscription = next(iter(scene.watch._feed._subscribers))
    fill(subscription, scene)
    scene.stand.hear(scene.an_endpoint(), PROGRESS)
    async with asyncio.timeout(5):
        while not subscription.is_lagging:
            await asyncio.sleep(0.01)

    got = [each async for each in stream]
    resumed = await scene.opened(last_id=ready["id"])

    assert got[-1]["data"]["code"] == "too_slow"
    assert len(got) == QUEUE_MAX + 1
    again = [each async for each in until(resumed, "ready")]
    assert [each["data"]["id"] for each in again if each["event"] == "endpoint.stage_changed"] == told(
        scene.stand, "endpoint.stage_changed"
    )


def fill(subscription: Subscription, scene: Scene) -> None:
    """Leave no room, as one who has not read for long would."""
    from_before = next(iter(_notices(scene)))
    for _ in range(QUEUE_MAX):
        subscription.queue.put_nowait(from_before)


def _notices(scene: Scene) -> list[Any]:
    other = Stand()
    other.api.tenants.adopt("acme", "main")
    made = other.api.endpoints.create(Ask(a_caller(), "req", "other"), name="other", spec=SPEC)
    other.hear(str(made.endpoint_id), PROGRESS[:1])
    del scene
    return Feed(other.store, Homes(other.endpoints))._notices(other.store.told(after=0))


async def test_a_project_may_have_so_many_watches_and_one_that_ended_counts_no_more() -> None:
    scene = Scene()
    subscriptions = [await scene.watch.open(a_caller()) for _ in range(PROJECT_WATCHERS_MAX)]

    with pytest.raises(QuotaExceeded):
        await scene.watch.open(a_caller())
    scene.watch.close(subscriptions[0])
    await scene.watch.open(a_caller())


async def test_a_watch_over_http_streams_beats_and_refuses_in_problems() -> None:
    stand = Stand()
    headers = stand.headers()
    stand.api.watch._heartbeat_s = 0.05
    port = free_port()
    server = asyncio.create_task(web.serve(stand.client.app, host="127.0.0.1", port=port))
    lines: list[str] = []
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=60, verify=NO_TLS) as client:
            await listening(port)
            async with client.stream("GET", "/v1/watch", headers=headers) as answer:
                kind = answer.headers["content-type"]
                async for line in answer.aiter_lines():
                    lines.append(line)
                    if line.startswith(":"):
                        break
            refused = await client.get("/v1/watch", headers={**headers, "last-event-id": str(event_id("x", "y", 0))})
            unknown = await client.get("/v1/endpoints/nothing/watch", headers=headers)
            anonymous = await client.get("/v1/watch")
    finally:
        server.cancel()
        await asyncio.gather(server, return_exceptions=True)

    assert kind.startswith("text/event-stream")
    assert any(each == "event: watch.ready" for each in lines)
    assert (refused.status_code, unknown.status_code, anonymous.status_code) == (422, 404, 401)
    assert refused.json()["errors"][0]["field"] == "Last-Event-ID"
