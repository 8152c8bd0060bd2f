"""An endpoint is published when it was seen from outside: a stranger refused, a key let in, and nobody billed."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import httpx
import pytest

from libs.common.clock import SystemClock
from libs.common.errors import Unavailable
from libs.common.events.event import Event
from libs.common.events.route import RoutePublished, RouteWaiting
from libs.common.events.tables import KeyEntry
from libs.common.reconciler import Delayed
from services.router.core.decide import decide
from services.router.core.lifecycle import RouteStage
from services.router.core.outside import Obstacle, Sight, hindrance
from services.router.core.probing import GOOD_FOR_MS, SCOPE, opened, probing_key
from services.router.core.state import Route
from services.router.shell.engines.table import RouteTable
from services.router.shell.outside import FromOutside, Resolve, resolved
from services.router.shell.request.gateway import Probed
from services.router.shell.world import RoutesInPlace
from tests.support.certificates import self_signed
from tests.support.ports import free_port
from tests.support.web import NO_TLS
from tests.unit.router.heard import NOW, cache_warmed, envelope, requested, seen
from tests.unit.router.scene import (
    ENDPOINT,
    KEY,
    NAME,
    PROJECT,
    TENANT,
    Scene,
    a_request,
    a_route,
    a_scene,
    ask,
    chat_body,
)

SECRET, FOREIGN = b"a secret of this installation", b"a secret of another installation"
ENGINE = "http://127.0.0.1:9"  # Nothing listens there, and nothing asks.
URL = "http://router/v1"


def anybody(_key: str, _now_ms: int) -> KeyEntry:
    """The planted fault: a data plane that lets anybody in."""
    return KeyEntry(key_id="x", sha256="", tenant_id=TENANT, project_id=PROJECT, scopes=("inference",))


@asynccontextmanager
async def an_edge(secret: bytes = SECRET, probed: Probed | None = None) -> AsyncIterator[Scene]:
    async with a_scene(ENGINE, probed=probed or partial(opened, secret)) as scene:
        yield scene


async def look(
    url: str,
    *,
    secret: bytes = SECRET,
    ca_file: str = "",
    hostname: str = "",
    resolve: Resolve = resolved,
    is_door: bool = False,
) -> Sight:
    outside = FromOutside(
        url, secret=secret, clock=SystemClock(), timeout_s=30, ca_file=ca_file, resolve=resolve, is_door=is_door
    )
    return await asyncio.to_thread(outside.look, a_route([ENGINE]).model_copy(update={"hostname": hostname}))


async def test_a_stranger_is_refused_and_the_probing_key_let_in_without_a_bill_or_a_use() -> None:
    async with an_edge() as scene:
        sight = await look(scene.base_url)

        assert (sight.obstacle, sight.without_key, sight.with_key) == (Obstacle.NONE, 401, 200)
        assert hindrance(sight) is None
        assert scene.journal.backlog() == 0
        assert scene.gateway.key_use.untold(10) == ()


async def test_a_probing_key_generates_nothing_and_sees_no_other_endpoint() -> None:
    key = probing_key(SECRET, a_route([ENGINE]), now_ms=SystemClock().now_ms())
    async with an_edge() as scene:
        scene.serve(ENGINE, name="other", endpoint="ep-b")
        (generated,) = await ask(scene.port, a_request(chat_body(), key=key))
        async with httpx.AsyncClient(
            base_url=scene.base_url, headers={"authorization": f"Bearer {key}"}, verify=NO_TLS
        ) as client:
            other = await client.get("/models/other")
            listed = await client.get("/models")

        assert (generated.status, generated.error["code"]) == (401, "invalid_api_key")
        assert other.status_code == 404
        assert [each["id"] for each in listed.json()["data"]] == [NAME]
        assert scene.journal.backlog() == 0


async def test_a_data_plane_that_lets_strangers_in_is_not_published() -> None:
    async with an_edge(probed=anybody) as scene:
        found = hindrance(await look(scene.base_url))

    assert found is not None
    assert found.reason == "RouteOpen"


async def test_a_data_plane_of_another_installation_is_not_taken_for_ours() -> None:
    async with an_edge(FOREIGN) as scene:
        found = hindrance(await look(scene.base_url))

    assert found is not None
    assert (found.reason, "answers 401 to a good key" in found.message) == ("RouteNotServed", True)


async def test_what_stands_in_the_way_is_named() -> None:
    nobody, nowhere = await look(f"http://127.0.0.1:{free_port()}/v1"), await look("http://api.invalid/v1")

    assert (nobody.obstacle, nowhere.obstacle) == (Obstacle.WAY, Obstacle.NAME)
    assert [getattr(hindrance(each), "reason", "") for each in (nobody, nowhere)] == ["RouteUnreachable", "DnsNotReady"]


def is_there(_host: str) -> str:
    """Its DNS record leads to us."""
    return "127.0.0.1"


async def test_a_tenants_host_name_is_met_by_that_name_or_waited_for() -> None:
    async with an_edge() as scene:
        scene.serve(ENGINE, hostname="api.acme.invalid")
        met = await look(scene.base_url, hostname="api.acme.invalid", resolve=is_there)
        nowhere = await look(scene.base_url, hostname="api.acme.invalid")
        behind_a_door = await look(scene.base_url, hostname="api.acme.invalid", is_door=True)
        at_the_door = await look(
            scene.base_url, hostname="api.acme.invalid", is_door=True, resolve=lambda _host: "192.0.2.1"
        )

    assert hindrance(met) is None
    assert met.url == f"http://api.acme.invalid:{scene.port}/v1/models/{NAME}"
    assert [getattr(hindrance(each), "reason", "") for each in (nowhere, behind_a_door)] == ["DnsNotReady"] * 2
    assert hindrance(at_the_door) is None, "where names do not lead back to us, they have to resolve"


async def test_a_certificate_of_another_name_is_not_good_for_a_tenants_host_name(tmp_path: Path) -> None:
    certificate = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    async with await asyncio.start_server(
        lambda _reader, writer: writer.close(), "127.0.0.1", 0, ssl=context
    ) as server:
        url = f"https://localhost:{server.sockets[0].getsockname()[1]}/v1"
        sight = await look(url, ca_file=str(certificate), hostname="api.acme.invalid", resolve=is_there)

    found = hindrance(sight)
    assert found is not None
    assert (found.reason, "api.acme.invalid" in found.message) == ("CertificateNotReady", True)


async def test_a_certificate_is_waited_for_until_it_is_good(tmp_path: Path) -> None:
    certificate = self_signed(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked = await reader.readuntil(b"\r\n\r\n")
        status = b"200" if b"authorization: Bearer mr_probe_" in asked else b"401"
        writer.write(b"HTTP/1.1 %s X\r\ncontent-length: 0\r\n\r\n" % status)
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context) as server:
        url = f"https://localhost:{server.sockets[0].getsockname()[1]}/v1"
        bad, good = await look(url), await look(url, ca_file=str(certificate))

    found = hindrance(bad)
    assert found is not None
    assert (found.reason, "self-signed" in found.message or "self signed" in found.message) == (
        "CertificateNotReady",
        True,
    )
    assert hindrance(good) is None


def test_a_probing_key_is_good_for_one_endpoint_of_one_installation_and_for_seconds() -> None:
    key = probing_key(SECRET, a_route([ENGINE]), now_ms=NOW)

    entry = opened(SECRET, key, NOW)

    assert entry is not None
    assert (entry.tenant_id, entry.project_id, entry.models, entry.scopes) == (TENANT, PROJECT, (NAME,), (SCOPE,))
    assert opened(SECRET, key, NOW + GOOD_FOR_MS) is None
    assert opened(FOREIGN, key, NOW) is None


@pytest.mark.parametrize(
    "change",
    ["", "x", pytest.param(KEY.plaintext, id="a key"), "mr_probe_", "mr_probe_.", "mr_probe_é.é", "mr_probe_" * 200],
)
def test_what_is_no_probing_key_opens_nothing(change: str) -> None:
    assert opened(SECRET, change, NOW) is None


def test_no_letter_of_a_probing_key_can_be_another() -> None:
    key = probing_key(SECRET, a_route([ENGINE]), now_ms=NOW)

    for place in range(len(key)):
        other = "A" if key[place] != "A" else "B"
        assert opened(SECRET, key[:place] + other + key[place + 1 :], NOW) is None, place


def publishing() -> Route:
    route = Route(ENDPOINT)
    for each in (requested(), cache_warmed(ENGINE)):
        route = decide(route, each, NOW, url=URL).state
    assert route.stage is RouteStage.PUBLISHING
    return route


def test_what_only_the_table_has_is_not_said_to_serve() -> None:
    route = publishing()

    inside = decide(route, seen(route, is_met_outside=False), NOW, url=URL)
    outside = decide(inside.state, seen(route, mark="2"), NOW, url=URL)

    assert inside.events == ()
    assert outside.events == (RoutePublished(url=URL),)


def test_why_it_is_not_published_yet_is_told_when_the_reason_changes() -> None:
    route = publishing()
    told: list[Event] = []
    for index, code in enumerate(("DnsNotReady", "DnsNotReady", "CertificateNotReady")):
        delayed = envelope(Delayed(code=code, message=f"said {code}"), sequence=0, mark=str(index))
        decision = decide(route, delayed, NOW, url=URL)
        route, told = decision.state, [*told, *decision.events]

    assert told == [
        RouteWaiting(reason="DnsNotReady", message="said DnsNotReady"),
        RouteWaiting(reason="CertificateNotReady", message="said CertificateNotReady"),
    ]
    assert route.stage is RouteStage.PUBLISHING


def test_nobody_is_asked_before_the_table_has_the_route_and_the_answer_counts_then() -> None:
    route, table, asked = publishing(), RouteTable(), []

    class Shut:
        def look(self, entry: object) -> Sight:
            asked.append(entry)
            return Sight(URL, without_key=401, with_key=404)

    world = RoutesInPlace(table, Shut())
    assert not world.observe(route).is_met_outside
    assert asked == []
    assert route.entry is not None
    table.change(ENDPOINT, route.entry.model_dump_json().encode())

    with pytest.raises(Unavailable) as refused:
        world.observe(route)

    assert (refused.value.code, asked) == ("RouteNotServed", [route.entry])
