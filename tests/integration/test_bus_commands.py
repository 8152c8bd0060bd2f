"""Commands on a real broker: published through JetStream, taken by endpoint-api as it is assembled, answered once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
from nats.aio.client import Client
from nats.js import JetStreamContext
from nats.js.api import PubAck
from nats.js.errors import APIError

from libs.common.bus.port import Message
from libs.common.bus.provision import provision
from libs.common.bus.server import NatsServer
from libs.common.bus.streams import CMD, DLQ, EVT
from libs.common.events import command as cmd
from libs.common.ids import SystemEntropy
from libs.common.keys import mint
from services.endpoint_api.__main__ import assemble
from services.endpoint_api.shell.settings import Settings
from tests.support.nats import connected, nats_server, stored
from tests.support.ports import free_port
from tests.unit.endpoint_api.frontend import WHOSE, a_command, message

__all__ = ["nats_server"]

PATIENCE_S: Final = 60.0
SPEC: Final = {"model": "millrace/ngram-1", "tier": "l40s-dedicated", "region": "eu-1"}
CATALOGUE: Final = Path(__file__).parents[2] / "deploy/catalogue"


def create(name: str = "chat", **more: Any) -> cmd.Command:
    """A create."""
    return a_command(cmd.CreateEndpoint, name=name, spec=SPEC, **more)


@dataclass(slots=True)
class Frontend:
    """A product frontend on the broker: it reads the ack of what it publishes, as it must."""

    url: str
    client: Client
    js: JetStreamContext
    acks: list[PubAck] = field(default_factory=list)

    async def publish(self, command: cmd.Command, id: str, *, body: bytes | None = None) -> PubAck:
        """Publish a command, with its id as the broker's too."""
        sent = message(command, id, body=body)
        return await self.js.publish(sent.subject, sent.body, headers={**sent.headers, "Nats-Msg-Id": id})

    async def answers(self, id: str) -> list[Mapping[str, Any]]:
        """What was told about a command so far."""
        told = [json.loads(each.body) for each in await stored(self.url, EVT) if "command-answered" in each.subject]
        return [each for each in told if each["command_id"] == id]

    async def answer(self, id: str) -> Mapping[str, Any]:
        """The answer to a command, once it is there."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                found = await self.answers(id)
                if found:
                    assert len(found) == 1
                    return found[0]
                await asyncio.sleep(0.05)

    async def waiting(self) -> int:
        """How many commands are not taken yet: a work queue can't be read beside its consumer."""
        return (await self.js.stream_info(CMD)).state.messages

    async def all_taken(self) -> None:
        """Wait until every command is."""
        async with asyncio.timeout(PATIENCE_S):
            while await self.waiting():
                await asyncio.sleep(0.05)

    async def parked(self, count: int) -> list[Message]:
        """The dead letters, once there are as many."""
        async with asyncio.timeout(PATIENCE_S):
            while True:
                found = await stored(self.url, DLQ)
                if len(found) >= count:
                    return found
                await asyncio.sleep(0.05)


@pytest.fixture
async def frontend(nats_server: NatsServer) -> AsyncIterator[Frontend]:
    """A frontend on a provisioned broker."""
    await provision(nats_server.url)
    async with connected(nats_server.url) as client:
        yield Frontend(nats_server.url, client, client.jetstream())


@asynccontextmanager
async def serving(url: str, directory: Path) -> AsyncIterator[None]:
    """endpoint-api, assembled as its main does, until the block ends; its database stays."""
    bootstrap = directory / "bootstrap.json"
    whose = {"tenant_id": "acme", "project_id": "main", "scopes": ["read", "manage"]}
    if not bootstrap.exists():
        bootstrap.write_text(json.dumps({**whose, "key": mint(SystemEntropy()).plaintext}))
    settings = Settings(
        nats_url=url,
        database_url=f"sqlite:///{directory}/endpoint-api.db",
        http_port=free_port(),
        admin_port=free_port(),
        catalogue_dir=CATALOGUE,
        bootstrap_file=bootstrap,
    )
    process = assemble(settings)
    task = asyncio.create_task(process.serve())
    try:
        yield
    finally:
        process.stop()
        await task


async def test_a_command_is_answered_and_the_owners_hear_of_it(frontend: Frontend, tmp_path: Path) -> None:
    async with serving(frontend.url, tmp_path):
        ack = await frontend.publish(create(), "c1")
        answer = await frontend.answer("c1")

    kinds = [each.headers.get("ce-type") for each in await stored(frontend.url, EVT)]
    assert ack.stream == CMD
    assert (answer["status"], answer["tenant_id"], answer["project_id"]) == (202, "acme", "main")
    assert (answer["body"]["verb"], answer["body"]["status"]) == ("create", "running")
    assert "endpoint.requested.v1" in kinds


async def test_refusals_and_plans_are_answered_too(frontend: Frontend, tmp_path: Path) -> None:
    async with serving(frontend.url, tmp_path):
        await frontend.publish(a_command(cmd.PauseEndpoint, endpoint="nobody"), "c1")
        await frontend.publish(create(), "c2", body=json.dumps({**WHOSE, "name": "chat"}).encode())
        await frontend.publish(create(dry_run=True), "c3")

        refused, malformed, planned = [await frontend.answer(each) for each in ("c1", "c2", "c3")]

    assert (refused["status"], refused["body"]["code"]) == (404, "not_found")
    assert (malformed["status"], malformed["body"]["errors"][0]["field"]) == (422, "spec")
    assert planned["status"] == 200


async def test_what_nobody_can_be_told_of_is_a_dead_letter(frontend: Frontend, tmp_path: Path) -> None:
    good = message(create(), "good")
    async with serving(frontend.url, tmp_path):
        await frontend.js.publish(good.subject, b"{", headers=dict(good.headers))
        await frontend.js.publish("mr.v1.cmd.endpoint-create.acme.two", good.body, headers={"ce-id": "two"})
        await frontend.js.publish("mr.v1.cmd.endpoint-create.spy.good", good.body, headers=dict(good.headers))
        parked = await frontend.parked(3)

        await frontend.publish(create(), "c1")
        assert (await frontend.answer("c1"))["status"] == 202
        await frontend.all_taken()

    assert len(parked) == 3


async def test_a_command_waits_for_a_service_that_is_away(frontend: Frontend, tmp_path: Path) -> None:
    await frontend.publish(create(), "c1")

    async with serving(frontend.url, tmp_path):
        assert (await frontend.answer("c1"))["status"] == 202
        await frontend.all_taken()


async def test_one_command_waits_on_a_subject_and_the_next_is_refused(frontend: Frontend, tmp_path: Path) -> None:
    first = message(create(), "c1")
    await frontend.publish(create(), "c1")

    again = await frontend.publish(create("other"), "c1")
    with pytest.raises(APIError, match="maximum messages per subject exceeded"):
        await frontend.js.publish(first.subject, b"another", headers=dict(first.headers))
    await frontend.client.publish(first.subject, b"without an ack", headers=dict(first.headers))
    await frontend.client.flush()

    assert again.duplicate
    assert await frontend.waiting() == 1
    assert (await frontend.js.get_last_msg(CMD, first.subject)).data == first.body
    async with serving(frontend.url, tmp_path):
        assert (await frontend.answer("c1"))["body"]["verb"] == "create"
        await frontend.publish(a_command(cmd.PauseEndpoint, endpoint="chat"), "c2")
        assert (await frontend.answer("c2"))["status"] == 202


async def test_a_command_that_is_delivered_again_is_answered_once(frontend: Frontend, tmp_path: Path) -> None:
    sent = message(create(), "c1")
    async with serving(frontend.url, tmp_path):
        await frontend.publish(create(), "c1")
        await frontend.answer("c1")
    async with serving(frontend.url, tmp_path):
        # Without the broker's own id it is a new message to it, as after its ten minutes.
        await frontend.js.publish(sent.subject, sent.body, headers=dict(sent.headers))
        await frontend.publish(a_command(cmd.ScaleEndpoint, endpoint="chat", scaling={"max": 2}), "after")
        await frontend.answer("after")
        await frontend.all_taken()

        assert [each["status"] for each in await frontend.answers("c1")] == [202]
