"""endpoint-api as a process has it: SQLite, a bus, uvicorn on a real socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest

from libs.common import web
from libs.common.bus.memory import MemoryBroker, MemoryBus
from libs.common.bus.streams import EVT, message_of
from libs.common.clock import SystemClock
from libs.common.events import capacity
from libs.common.events.envelope import Envelope, from_wire
from libs.common.events.event import Event, Owner
from libs.common.ids import SystemEntropy, event_id
from libs.common.keys import mint
from libs.common.process import Process
from libs.common.settings import CommonSettings
from libs.common.store.sql import SqlStore
from services.endpoint_api.service import build
from services.endpoint_api.shell.api import Api
from services.endpoint_api.shell.auth import Authenticator
from services.endpoint_api.shell.catalogue import read_catalogue
from services.endpoint_api.shell.ports import Ports
from services.endpoint_api.shell.routes.app import create_app
from tests.support.ports import free_port
from tests.support.web import NO_TLS

CATALOGUE = read_catalogue(Path(__file__).parents[2] / "deploy/catalogue")
KEY = mint(SystemEntropy()).plaintext
AUTH = {"authorization": f"Bearer {KEY}"}
SPEC = {"model": "millrace/ngram-1", "tier": "l40s-dedicated", "region": "eu-1"}
PATIENCE_S = 60.0


@dataclass(slots=True)
class Running:
    """A process that serves, and the bus it is on."""

    port: int
    admin_port: int
    broker: MemoryBroker
    client: httpx.AsyncClient

    def told(self) -> list[Envelope]:
        """Events on the bus."""
        return [from_wire(each.headers, each.body) for each in self.broker.streams[EVT]]

    def tell(self, about: str, events: Sequence[Event]) -> None:
        """Put events of other owners on the bus."""
        for index, data in enumerate(events):
            envelope = Envelope(event_id(about, data.kind, 0), data, about, 1, generation=1, sequence=index + 1)
            self.broker.store(message_of(envelope))


@asynccontextmanager
async def running(directory: Path, broker: MemoryBroker, *, endpoints_max: int = 20) -> AsyncIterator[Running]:
    """endpoint-api on the database in ``directory``, until the block ends."""
    clock = SystemClock()
    url = f"sqlite:///{directory}/endpoint-api.db"
    ports = Ports(SqlStore(url), clock, CATALOGUE, SystemEntropy(), endpoints_max=endpoints_max)
    service = build(ports)
    api = Api(service, ports)
    api.keys.record(KEY, tenant_id="acme", project_id="main", name="first", scopes=["read", "manage"])
    api.tenants.adopt("acme", "main")
    app = create_app(
        api,
        Authenticator(service, ports),
        entropy=ports.entropy,
    )
    port = free_port()
    settings = CommonSettings(database_url=url, admin_port=free_port())
    serve = partial(web.serve, app, host="127.0.0.1", port=port)
    process = Process(service, MemoryBus(broker), settings, also=[serve])
    task = asyncio.create_task(process.serve())
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S, verify=NO_TLS) as client:
        await until(partial(answers, client))
        yield Running(port, settings.admin_port, broker, client)
    process.stop()
    await task


async def answers(client: httpx.AsyncClient) -> bool:
    """Whether somebody listens."""
    try:
        return (await client.get("/healthz")).status_code == 200
    except httpx.TransportError:
        return False


async def until(holds: Any) -> None:
    """Wait until ``holds()`` is true, a few seconds at most."""
    async with asyncio.timeout(PATIENCE_S):
        while not await holds():
            await asyncio.sleep(0.02)


@pytest.fixture
def broker() -> MemoryBroker:
    """A bus that outlives processes."""
    return MemoryBroker(SystemClock())


async def test_a_create_reaches_the_bus_and_facts_from_the_bus_reach_the_status(
    tmp_path: Path, broker: MemoryBroker
) -> None:
    async with running(tmp_path, broker) as api:
        traceparent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
        created = await api.client.post(
            "/v1/endpoints", json={"name": "chat", "spec": SPEC}, headers={**AUTH, "traceparent": traceparent}
        )
        endpoint_id = created.json()["endpoint_id"]

        async def asked() -> bool:
            return any(each.data.kind == "endpoint.requested" for each in api.told())

        await until(asked)
        api.tell(endpoint_id, [capacity.CapacityQueued()])

        async def moved() -> bool:
            found = await api.client.get("/v1/endpoints/chat", headers=AUTH)
            return bool(found.json()["status"]["stage"] == "waiting_for_capacity")

        await until(moved)

        async def said_so() -> bool:
            return any(each.data.kind == "endpoint.stage_changed" for each in api.told())

        await until(said_so)

    requested = next(each for each in api.told() if each.data.kind == "endpoint.requested")
    assert requested.subject == endpoint_id
    assert requested.traceparent.split("-")[1] == traceparent.split("-")[1]
    assert requested.owner is Owner.ENDPOINT_API
    assert [each for each in broker.buckets["keys"]] == [KEY.split("_")[2]]


async def test_after_a_restart_the_same_request_is_the_same_operation(tmp_path: Path, broker: MemoryBroker) -> None:
    body, headers = {"name": "chat", "spec": SPEC}, {**AUTH, "idempotency-key": "k1"}
    async with running(tmp_path, broker) as api:
        first = await api.client.post("/v1/endpoints", json=body, headers=headers)

    async with running(tmp_path, broker) as api:
        again = await api.client.post("/v1/endpoints", json=body, headers=headers)
        taken = await api.client.post("/v1/endpoints", json=body, headers=AUTH)

    assert again.json() == first.json()
    assert (taken.status_code, taken.json()["code"]) == (409, "name_taken")
    assert sum(each.data.kind == "endpoint.requested" for each in api.told()) == 1


async def test_forty_creates_at_once_against_a_limit_of_ten_make_ten(tmp_path: Path, broker: MemoryBroker) -> None:
    async with running(tmp_path, broker, endpoints_max=10) as api:

        async def one(n: int) -> int:
            body = {"name": f"chat-{n}", "spec": SPEC}
            return (await api.client.post("/v1/endpoints", json=body, headers=AUTH)).status_code

        statuses = await asyncio.gather(*(one(n) for n in range(40)))
        listed = (await api.client.get("/v1/endpoints", headers=AUTH)).json()["items"]

    assert (statuses.count(202), statuses.count(429)) == (10, 30)
    assert len(listed) == 10


async def raw(port: int, request: bytes) -> bytes:
    """What the server sends back to these bytes, up to its end or a second of silence."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(request)
    await writer.drain()
    got = b""
    try:
        while part := await asyncio.wait_for(reader.read(65536), 1.0):
            got += part
    except TimeoutError:
        pass
    writer.close()
    return got


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"nonsense\r\n\r\n", b"400"),
        (
            b"POST /v1/endpoints HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 5\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
            b"400",
        ),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", b"400"),
        (
            b"POST /v1/endpoints HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n" + b"8000\r\n" + b"x" * 0x8000 + b"\r\n" + b"8001\r\n" + b"x" * 0x8001,
            b"413",
        ),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n", b"200"),
    ],
)
async def test_bytes_that_are_no_honest_request_get_one_refusal(
    tmp_path: Path, broker: MemoryBroker, request_bytes: bytes, status: bytes
) -> None:
    async with running(tmp_path, broker) as api:
        got = await raw(api.port, request_bytes)

        assert got.split(b" ", 2)[1] == status
        assert got.count(b"HTTP/1.1 ") == 1
        assert (await api.client.get("/healthz")).status_code == 200


async def test_a_body_over_the_limit_is_a_problem_and_nothing_is_made(tmp_path: Path, broker: MemoryBroker) -> None:
    async with running(tmp_path, broker) as api:
        body = json.dumps({"name": "chat", "spec": SPEC, "pad": "x" * 70_000})
        answer = await api.client.post(
            "/v1/endpoints", content=body, headers={**AUTH, "content-type": "application/json"}
        )
        listed = await api.client.get("/v1/endpoints", headers=AUTH)

    assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
    assert answer.headers["content-type"] == "application/problem+json"
    assert listed.json()["items"] == []


async def test_the_admin_page_says_whether_it_lives_can_work_and_how_much(tmp_path: Path, broker: MemoryBroker) -> None:
    async with running(tmp_path, broker) as api, httpx.AsyncClient(verify=NO_TLS) as client:
        pages = {
            path: await client.get(f"http://127.0.0.1:{api.admin_port}/{path}")
            for path in ("healthz", "readyz", "metrics", "nowhere")
        }

    assert {path: page.status_code for path, page in pages.items()} == {
        "healthz": 200,
        "readyz": 200,
        "metrics": 200,
        "nowhere": 404,
    }
    assert "endpoint_api_commands_total" in pages["metrics"].text
