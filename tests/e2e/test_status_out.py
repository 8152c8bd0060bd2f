"""What customers hear of their endpoints, for real: watches that outlive a killed API, webhooks that come in order."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import pytest

from libs.client import Millrace
from libs.client.watching import events
from libs.common.bus.tail import tail
from libs.common.errors import MillraceError
from services.endpoint_api.core.notices import SHOWN
from tests.e2e.local_profile import Profile, wait_until
from tests.e2e.receiver import Receiver
from tests.e2e.test_kills import CREATE

pytestmark = [pytest.mark.xdist_group("profile"), pytest.mark.chaos]

WATCHED: Final = "watched"
HOOKED: Final = "hooked"
CHANGED: Final = "endpoint.stage_changed"  # Its type on the wire has the version behind it.
FINISHED: Final = "operation.finished"

Json = dict[str, Any]


def told(profile: Profile, endpoint_id: str) -> list[str]:
    """The ids of what the bus has for customers of an endpoint, in order."""

    async def read() -> list[str]:
        url, subject = profile.credentials.nats_url, f"mr.v1.evt.endpoint-api.*.*.{endpoint_id}"
        heads = [each.message.headers async for each in tail(url, stream="MR_EVT", subject=subject)]
        return [each["ce-id"] for each in heads if each["ce-type"].rpartition(".v")[0] in SHOWN]

    return asyncio.run(read())


def types(heard: list[Json]) -> list[str]:
    """What kinds of events these are, without versions."""
    return [each["type"].rpartition(".v")[0] for each in heard]


def stages(heard: list[Json]) -> list[str]:
    """The stages that events tell, in order."""
    return [each["data"]["stage"] for each in heard if each["type"] == f"{CHANGED}.v1"]


@pytest.fixture
def client(profile: Profile) -> Iterator[Millrace]:
    """A client of the test's own: watches go on in it while others ask."""
    with Millrace(profile.credentials.api_url, profile.credentials.key) as client:
        yield client


class Watcher:
    """Reads the project's watch in a thread, as a program with the client does."""

    def __init__(self, client: Millrace) -> None:
        self.heard: list[Json] = []
        self._client = client
        threading.Thread(target=self._read, daemon=True).start()

    def of(self, endpoint_id: str) -> list[Json]:
        """What was heard of one endpoint since the watch began."""
        return [
            each["data"] for each in self.heard if each["event"] in SHOWN and each["data"]["subject"] == endpoint_id
        ]

    def count(self, kind: str) -> int:
        """How often this was heard."""
        return sum(each["event"] == kind for each in self.heard)

    def _read(self) -> None:
        with suppress(MillraceError, RuntimeError):  # The test ended and closed the client.
            for each in events(self._client.transport, "/v1/watch"):
                self.heard.append(each)


def test_a_watch_follows_a_create_to_ready_over_the_death_of_the_api(profile: Profile, client: Millrace) -> None:
    watcher = Watcher(client)
    wait_until(lambda: watcher.count("watch.ready") == 1, "the watch never began")
    endpoint_id = profile.create(WATCHED)
    wait_until(lambda: len(stages(watcher.of(endpoint_id))) >= 2, "nothing was heard")
    killed, at_kill = profile.pid("endpoint-api"), len(stages(watcher.of(endpoint_id)))
    assert profile.kill("endpoint-api")
    wait_until(lambda: FINISHED in types(watcher.of(endpoint_id)), "the watch did not go on to the end")
    profile.insist("DELETE", f"/v1/endpoints/{endpoint_id}")

    heard = watcher.of(endpoint_id)[: len(CREATE)]
    assert at_kill < len(CREATE) - 1, "it was ready before the kill: the test proves nothing"
    assert profile.pid("endpoint-api") != killed
    assert watcher.count("watch.ready") == 1  # It resumed where it was, and did not begin anew.
    assert stages(heard) == list(CREATE[1:])  # None is lost, none comes twice, all are in order.
    assert [each["id"] for each in heard] == told(profile, endpoint_id)[: len(CREATE)]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A customer's receiver, up."""
    receiver = Receiver()
    receiver.up()
    yield receiver
    receiver.down()


def test_a_webhook_is_signed_in_order_sent_again_by_hand_and_outlives_its_receiver(
    profile: Profile, client: Millrace, receiver: Receiver
) -> None:
    made = client.webhooks.create(receiver.url, [CHANGED])
    webhook_id, secret = made["webhook"]["id"], made["secret"]
    endpoint_id = profile.create(HOOKED)

    def heard() -> list[str]:
        """The stages as they came, each message once: what was in flight at an end may come twice."""
        first = {each.id: each.event for each in receiver.got if each.event["subject"] == endpoint_id}
        return stages(list(first.values()))

    wait_until(lambda: len(heard()) >= 2, "nothing was sent")
    receiver.down()
    wait_until(lambda: client.webhooks.get(webhook_id)["failed_attempts"] == 1, "no attempt failed")
    taken = len(heard())
    receiver.up()  # Well before the second attempt, some seconds later; what happens meanwhile waits for its turn.
    profile.wait_for_stage(endpoint_id, "ready")
    wait_until(lambda: "ready" in heard(), "not everything came once the receiver was up again")

    assert taken < len(CREATE) - 1, "all had come before the receiver was down: the test proves nothing"
    assert heard() == list(CREATE[1:])
    assert all(each.is_signed_with(secret) for each in receiver.got)
    assert not any(each.is_signed_with("whsec_" + "A" * 43 + "=") for each in receiver.got)

    again = next(each for each in receiver.got if each.event["subject"] == endpoint_id)
    before = len(receiver.got)
    client.webhooks.redeliver(webhook_id, again.id)
    # Beside what the project's other endpoints do meanwhile.
    wait_until(lambda: again.id in [each.id for each in receiver.got[before:]], "it was not sent again")

    sent_again = next(each for each in receiver.got[before:] if each.id == again.id)
    assert sent_again.body == again.body
    assert sent_again.is_signed_with(secret)
    wait_until(
        lambda: {each["delivered"] for each in client.webhooks.deliveries(webhook_id)} == {True},
        "one is under way still",
    )

    client.webhooks.delete(webhook_id)
    profile.insist("DELETE", f"/v1/endpoints/{endpoint_id}")
