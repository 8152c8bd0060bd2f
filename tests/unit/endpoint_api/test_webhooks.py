"""Webhooks: signed, in order, again after a failure, and never to a private address."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import pytest

from libs.common.errors import Conflict, NotFound
from libs.common.units import HOUR_MS, SECOND_MS
from services.endpoint_api.core.addresses import target_of
from services.endpoint_api.core.caller import Ask
from services.endpoint_api.core.refusal import FieldRefused
from services.endpoint_api.core.webhooks import BACKOFF_MS, backoff_ms
from services.endpoint_api.shell.dispatching import Dispatcher
from services.endpoint_api.shell.owners import Homes
from services.endpoint_api.shell.secrets import Secrets
from services.endpoint_api.shell.sender import HttpSender, Sent
from services.endpoint_api.shell.verbs.webhooks import NewSecret, WebhookVerbs
from tests.unit.endpoint_api.given import PROGRESS, SPEC, Stand, a_caller

ASK: Final = Ask(a_caller(), "req-1", "key-1")
OK: Final = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Receiver:
    """A real HTTP receiver on a port of its own; it answers as told and keeps what it was sent."""

    answers: list[bytes | Answer] = field(default_factory=list)
    got: list[tuple[dict[str, str], str]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?x=1"

    def ids(self) -> list[str]:
        return [headers["webhook-id"] for headers, _ in self.got]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:] if line)
        body = (await reader.readexactly(int(headers["content-length"]))).decode()
        self.got.append((headers, body))
        answer = self.answers.pop(0) if self.answers else OK
        if isinstance(answer, bytes):
            writer.write(answer)
        else:
            await answer(reader, writer)
        writer.close()


@asynccontextmanager
async def a_receiver(*answers: bytes | Answer) -> AsyncIterator[Receiver]:
    receiver = Receiver(list(answers))
    server = await asyncio.start_server(receiver.serve, "127.0.0.1", 0)
    receiver.port = server.sockets[0].getsockname()[1]
    try:
        yield receiver
    finally:
        server.close()


async def silent(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await asyncio.sleep(1)


async def huge(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100000000\r\n\r\n" + b"x" * 1_000_000)


async def slow_body(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n")
    await asyncio.sleep(1)


async def long_head(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"HTTP/1.1 200 OK\r\nx: " + b"x" * 100_000)


class Scene:
    """endpoint-api with one webhook, and a dispatcher that a test moves by hand."""

    def __init__(self) -> None:
        self.stand = Stand()
        self.secrets = Secrets(self.stand.store, self.stand.entropy)
        self.runner = self.stand.service.runner("webhook")
        self.verbs = WebhookVerbs(self.runner, self.stand.ports, self.secrets, allow_local=True)
        self.dispatcher = self.a_dispatcher()

    def a_dispatcher(self) -> Dispatcher:
        sender = HttpSender(allow_local=True, deadline_s=0.3)
        homes = Homes(self.stand.endpoints)
        return Dispatcher(self.runner, self.stand.store, self.stand.clock, self.secrets, sender, homes)

    def a_webhook(self, url: str, *events: str) -> NewSecret:
        return self.verbs.create(ASK, url=url, events=events or ("endpoint.*",))

    def an_endpoint(self, name: str = "chat", tenant: str = "acme") -> str:
        self.stand.api.tenants.adopt(tenant, "main")
        ask = Ask(a_caller(tenant), "req", f"make-{name}")
        return self.stand.api.endpoints.create(ask, name=name, spec=SPEC).endpoint_id

    async def deliver(self) -> None:
        await self.dispatcher.round()
        await self.dispatcher.settle()

    async def later(self, ms: int) -> None:
        self.stand.clock.advance(ms)
        await self.deliver()


def stages(receiver: Receiver) -> list[str]:
    return [json.loads(body)["data"].get("stage", "") for _, body in receiver.got]


def is_signed(headers: dict[str, str], body: str, secret: str) -> bool:
    """Standard Webhooks, written from its text alone."""
    key = base64.b64decode(secret[len("whsec_") :])
    content = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.{body}".encode()
    wanted = base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()
    return any(each == f"v1,{wanted}" for each in headers["webhook-signature"].split(" "))


async def test_a_webhook_gets_what_happens_in_its_project_in_order_and_signed() -> None:
    scene = Scene()
    async with a_receiver() as receiver:
        made = scene.a_webhook(receiver.url)
        endpoint_id = scene.an_endpoint()
        scene.an_endpoint("theirs", tenant="other")
        scene.stand.hear(endpoint_id, PROGRESS)

        await scene.deliver()

    assert stages(receiver)[0] == "waiting_for_capacity"
    assert stages(receiver)[-1] == "ready"
    assert {json.loads(body)["subject"] for _, body in receiver.got} == {endpoint_id}
    assert all(is_signed(headers, body, made.secret) for headers, body in receiver.got)
    assert not is_signed(receiver.got[0][0], receiver.got[0][1] + " ", made.secret)


@pytest.mark.parametrize(
    "fault",
    [
        b"HTTP/1.1 500 Oops\r\n\r\n", silent, b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\n\r\n",
        b"SSH-2.0-x\r\n\r\n", long_head, b"",
    ],
)  # fmt: skip
async def test_what_a_receiver_did_not_take_is_sent_again_before_what_follows(fault: bytes | Answer) -> None:
    scene = Scene()
    async with a_receiver(fault) as receiver:
        scene.a_webhook(receiver.url)
        scene.stand.hear(scene.an_endpoint(), PROGRESS)

        await scene.deliver()
        await scene.deliver()
        first = list(receiver.got)
        await scene.later(BACKOFF_MS[0] * 2)

    assert len(first) == 1
    assert receiver.ids()[0] == receiver.ids()[1]
    assert stages(receiver)[-1] == "ready"
    assert len(receiver.got) == len(set(receiver.ids())) + 1


@pytest.mark.parametrize("answer", [huge, slow_body])
async def test_the_body_of_an_answer_is_not_waited_for(answer: Answer) -> None:
    scene = Scene()
    async with a_receiver(answer) as receiver:
        scene.a_webhook(receiver.url)
        scene.stand.hear(scene.an_endpoint(), PROGRESS[:1])

        await scene.deliver()

    assert scene.verbs.deliveries(a_caller(), scene.verbs.list(a_caller())[0].id)[0].delivered


async def test_a_receiver_that_is_gone_is_disabled_and_the_project_is_told() -> None:
    scene = Scene()
    async with a_receiver(b"HTTP/1.1 410 Gone\r\n\r\n") as receiver:
        made = scene.a_webhook(receiver.url)
        scene.stand.hear(scene.an_endpoint(), PROGRESS[:1])

        await scene.deliver()
        await scene.later(HOUR_MS)
        disabled = scene.verbs.get(a_caller(), made.webhook.id).disabled
        scene.verbs.enable(ASK, made.webhook.id)
        await scene.deliver()

    assert disabled == "receiver_gone"
    assert receiver.ids()[0] == receiver.ids()[1]
    assert any(
        "webhook.disabled" in each.message.headers.get("ce-type", "")
        for each in scene.stand.store.told(after=0).messages
    )


async def test_a_receiver_that_fails_for_days_is_given_up() -> None:
    scene = Scene()
    made = scene.a_webhook("http://127.0.0.1:9/")
    scene.stand.hear(scene.an_endpoint(), PROGRESS[:1])

    for _ in range(len(BACKOFF_MS)):
        await scene.later(30 * HOUR_MS)
    before = scene.verbs.get(a_caller(), made.webhook.id)
    await scene.later(30 * HOUR_MS)

    assert before.disabled == ""
    assert scene.verbs.get(a_caller(), made.webhook.id).disabled == "receiver_failing"
    assert 70 * HOUR_MS < sum(BACKOFF_MS) < 80 * HOUR_MS
    assert all(abs(wait - (backoff_ms("wh", at + 1) or 0)) <= wait // 5 for at, wait in enumerate(BACKOFF_MS))


async def test_a_dispatcher_that_dies_in_the_middle_loses_nothing() -> None:
    scene = Scene()
    async with a_receiver(OK, OK, silent) as receiver:
        scene.a_webhook(receiver.url)
        scene.stand.hear(scene.an_endpoint(), PROGRESS)
        dying = asyncio.create_task(scene.dispatcher.run())
        while len(receiver.got) < 3:
            await asyncio.sleep(0.01)
        dying.cancel()
        await asyncio.gather(dying, return_exceptions=True)
        await asyncio.sleep(0.05)

        scene.dispatcher = scene.a_dispatcher()
        await scene.later(BACKOFF_MS[0] * 2)

    told = [
        each.message.id
        for each in scene.stand.store.told(after=0).messages
        if "endpoint.stage_changed" in each.message.headers.get("ce-type", "")
    ]
    assert list(dict.fromkeys(receiver.ids())) == told
    assert receiver.ids()[2] == receiver.ids()[3]


async def test_both_secrets_sign_while_they_overlap_and_the_old_one_not_after() -> None:
    scene = Scene()
    async with a_receiver() as receiver:
        old = scene.a_webhook(receiver.url)
        new = scene.verbs.rotate(ASK, old.webhook.id, overlap_s=60)
        endpoint_id = scene.an_endpoint()
        scene.stand.hear(endpoint_id, PROGRESS[:1])
        await scene.deliver()
        scene.stand.clock.advance(61 * SECOND_MS)
        scene.stand.hear(endpoint_id, PROGRESS[1:2], first=2)
        await scene.deliver()

    (during, body), (after, later) = receiver.got
    assert old.secret != new.secret
    assert is_signed(during, body, old.secret)
    assert is_signed(during, body, new.secret)
    assert is_signed(after, later, new.secret)
    assert not is_signed(after, later, old.secret)


async def test_an_event_is_sent_again_by_hand_and_a_test_goes_to_its_webhook_alone() -> None:
    scene = Scene()
    async with a_receiver() as receiver, a_receiver() as other:
        made = scene.a_webhook(receiver.url)
        scene.verbs.create(Ask(a_caller(), "req-2", "key-2"), url=other.url, events=("*",))
        scene.stand.hear(scene.an_endpoint(), PROGRESS[:1])
        await scene.deliver()

        first = scene.verbs.deliveries(a_caller(), made.webhook.id)[-1]
        scene.verbs.redeliver(ASK, made.webhook.id, first.event_id)
        scene.verbs.test(ASK, made.webhook.id)
        await scene.deliver()

    assert receiver.ids()[0] == first.event_id == receiver.ids()[-2]
    assert json.loads(receiver.got[-1][1])["type"] == "webhook.tested.v1"
    assert all("webhook.tested" not in body for _, body in other.got)


def test_no_secret_is_stored_journalled_or_shown_twice() -> None:
    scene = Scene()

    made = scene.a_webhook("https://example.com/hook")
    key = made.secret.removeprefix("whsec_").encode()

    assert made.secret not in repr(made)
    assert all(key not in each.state for each in scene.stand.store.records.values())
    assert all(key not in each.cause for each in scene.stand.store.rows)
    assert made.secret not in scene.verbs.get(a_caller(), made.webhook.id).model_dump_json()
    with pytest.raises(Conflict, match="shown once"):
        scene.a_webhook("https://example.com/hook")


def test_another_tenants_webhook_is_not_found() -> None:
    scene = Scene()
    made = scene.a_webhook("https://example.com/hook")

    for verb in (scene.verbs.get, scene.verbs.deliveries):
        with pytest.raises(NotFound):
            verb(a_caller("other"), made.webhook.id)
    with pytest.raises(NotFound):
        scene.verbs.delete(Ask(a_caller("other"), "r"), made.webhook.id)
    assert scene.verbs.list(a_caller("other")) == ()


@pytest.mark.parametrize(
    "url",
    [
        "http://example.com/", "https://127.0.0.1/", "https://10.1.2.3/", "https://192.168.0.1/", "https://172.16.0.1/",
        "https://169.254.169.254/latest", "https://100.64.0.1/", "https://224.0.0.1/", "https://0.0.0.0/",
        "https://[::1]/", "https://[fe80::1]/", "https://[fd00::1]/", "https://[::ffff:10.0.0.1]/",
        "https://[64:ff9b::a00:1]/", "https://[2002:a00:1::]/", "https://168.63.129.16/", "https://user:pw@example.com/",
        "https://exa\\mple.com/", "https://example.com/#x", "ftp://example.com/", "https:///x", "https://[::1",
        "https://example.com/\r\nx: y", "https://ex ample.com/",
    ],
)  # fmt: skip
def test_a_url_that_is_not_of_the_public_internet_is_refused(url: str) -> None:
    with pytest.raises(FieldRefused):
        target_of(url)


@pytest.mark.parametrize(
    "addresses",
    [
        ["127.0.0.1"], ["10.0.0.8"], ["93.184.216.34", "10.0.0.8"], ["169.254.169.254"], ["100.100.100.200"],
        ["::ffff:127.0.0.1"], ["::1"], ["64:ff9b::7f00:1"], [],
    ],
)  # fmt: skip
async def test_a_name_that_leads_to_a_private_address_is_not_reached(addresses: list[str]) -> None:
    async with a_receiver() as receiver:

        async def resolve(_host: str, _port: int) -> Sequence[str]:
            return addresses

        sent = await HttpSender(resolve=resolve, deadline_s=1).send(f"https://evil.example:{receiver.port}/", {}, b"{}")

    assert sent == Sent(0, "its address is not on the public internet")
    assert receiver.got == []


async def test_a_name_is_looked_up_once_so_a_second_answer_can_not_lead_elsewhere() -> None:
    answers = [["127.0.0.1"], ["10.0.0.8"]]
    asked: list[str] = []

    async def rebinding(host: str, _port: int) -> Sequence[str]:
        asked.append(host)
        return answers.pop(0)

    async with a_receiver() as receiver:
        sender = HttpSender(allow_local=True, resolve=rebinding)
        sent = await sender.send(f"http://rebinding.example:{receiver.port}/", {}, b"{}")

    assert sent == Sent(200)
    assert asked == ["rebinding.example"]
    assert receiver.got[0][0]["host"] == f"rebinding.example:{receiver.port}"
