"""What is told of a request, and to whom: its client, its engine, the log, a collector; and never what was said."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from services.router.shell.request.account import Books
from services.router.shell.seen.access_log import REFUSED_MAX, AccessLog
from services.router.shell.seen.spans import Tracer
from tests.support.canary import sightings
from tests.unit.router.engine import Engine, running
from tests.unit.router.scene import KEY, NAME, OTHER_KEY, Scene, a_request, a_scene, ask, chat_body

TRACE, PARENT = "a" * 32, "b" * 16
CANARY = "canary7f3a9b2c4d5e6f708192a3b4c5"
TRACED = f"traceparent: 00-{TRACE}-{PARENT}-01\r\ntracestate: x={CANARY}\r\n".encode()


@dataclass
class Collector:
    """Takes spans over OTLP/HTTP."""

    got: list[bytes] = field(default_factory=list)
    port: int = 0
    status: int = 200

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                found = re.search(rb"content-length: (\d+)", head.lower())
                assert found is not None
                self.got.append(head + await reader.readexactly(int(found.group(1))))
                writer.write(f"HTTP/1.1 {self.status} X\r\ncontent-length: 2\r\n\r\n{{}}".encode())
        writer.close()

    def spans(self) -> list[dict[str, object]]:
        bodies = (json.loads(each.partition(b"\r\n\r\n")[2]) for each in self.got)
        return [span for each in bodies for span in each["resourceSpans"][0]["scopeSpans"][0]["spans"]]


@contextlib.asynccontextmanager
async def collecting(collector: Collector) -> AsyncIterator[Collector]:
    server = await asyncio.start_server(collector.handle, "127.0.0.1", 0)
    collector.port = server.sockets[0].getsockname()[1]
    try:
        yield collector
    finally:
        server.close()


async def until(holds: object) -> None:
    async with asyncio.timeout(30):
        while not holds():  # type: ignore[operator]
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def telling(scene: Scene, *, log: str = "", url: str = "") -> AsyncIterator[None]:
    """The scene with a log and a collector."""
    books = Books(scene.gateway.clock, log=AccessLog(log), tracer=Tracer(url=url))
    scene.gateway.books = books
    tasks = [asyncio.create_task(books.log.run()), asyncio.create_task(books.tracer.run("router-0"))]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(each) for each in path.read_text().splitlines()] if path.exists() else []


@pytest.mark.parametrize("stream", [True, False])
async def test_the_client_gets_a_receipt(stream: bool) -> None:
    async with running(Engine()) as engine, a_scene(engine.url) as scene:
        [answer] = await ask(scene.port, a_request(chat_body(stream=stream)))
        bill = await scene.bill()

        receipt = answer.headers["millrace-receipt"]
        assert re.fullmatch(
            r'id="(req-[0-9a-z-]+)", region="eu-1", class="l40s-dedicated", queue_ms=\d+, cached_tokens=0', receipt
        ), receipt
        assert bill.request_id in receipt


@pytest.mark.parametrize(
    ("given", "is_kept"), [(b"job-7.a:b_c", True), (b"x" * 129, False), (b"a b", False), (b'a"b', False), (b"", False)]
)
async def test_a_client_keeps_its_own_id_if_it_is_a_sane_one(given: bytes, is_kept: bool) -> None:
    async with running(Engine()) as engine, a_scene(engine.url) as scene:
        header = b"x-request-id: " + given + b"\r\n"
        twice = a_request(chat_body(), headers=header)
        served, again, refused = await ask(
            scene.port, twice, twice, a_request(chat_body(model="nobodys"), headers=header)
        )
        bills = await scene.bills(2)

        for answer in (served, again, refused):
            assert (answer.headers["x-request-id"] == given.decode()) is is_kept
        # The bill and the engine have ours: two requests of one id are still two.
        assert len({each.request_id for each in bills}) == 2
        assert all(b"x-request-id: req-" in head for head in engine.heads)


async def test_a_trace_goes_through_to_the_engine_and_its_span_to_the_collector() -> None:
    async with running(Engine()) as engine, a_scene(engine.url) as scene, collecting(Collector()) as collector:
        async with telling(scene, url=f"http://127.0.0.1:{collector.port}"):
            await ask(
                scene.port, a_request(chat_body(stream=True), headers=TRACED), a_request(chat_body()),
            )  # fmt: skip
            await until(collector.spans)
        [span] = collector.spans()

        assert (span["traceId"], span["parentSpanId"]) == (TRACE, PARENT)
        assert f"traceparent: 00-{TRACE}-{span['spanId']}-01".encode() in engine.heads[0]
        assert b"traceparent" not in engine.heads[1]
        assert not any(b"tracestate" in head for head in engine.heads)
        told = {each["key"]: each["value"] for each in span["attributes"]}  # type: ignore[attr-defined]
        assert told["gen_ai.operation.name"] == {"stringValue": "chat"}
        assert told["gen_ai.usage.output_tokens"] == {"intValue": "5"}
        assert collector.got[0].startswith(b"POST /v1/traces ")


async def test_a_collector_that_refuses_costs_no_request() -> None:
    async with (
        running(Engine()) as engine,
        a_scene(engine.url) as scene,
        collecting(Collector(status=500)) as collector,
        telling(scene, url=f"http://127.0.0.1:{collector.port}"),
    ):
        await ask(scene.port, a_request(chat_body(), headers=TRACED))
        await until(lambda: collector.got)
        [answer] = await ask(scene.port, a_request(chat_body(), headers=TRACED))

        assert answer.status == 200


async def test_every_request_has_a_line_and_no_sink_has_a_word_of_it(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    body = chat_body(messages=[{"role": "user", "content": CANARY}])
    async with running(Engine(text=f"{CANARY} ")) as engine, a_scene(engine.url) as scene:
        async with (
            collecting(Collector()) as collector,
            telling(scene, log=str(log), url=f"http://127.0.0.1:{collector.port}"),
        ):
            requests = (
                    a_request(body, headers=TRACED), a_request(chat_body(model="nobodys", stream=True)),
                    a_request(body[:-1]), b"GET /healthz HTTP/1.1\r\nhost: r\r\n\r\n",
                )  # fmt: skip
            answers = await ask(scene.port, *requests)
            await until(lambda: len(lines(log)) == len(requests) and collector.got)

        served, unknown, broken, health = lines(log)
        assert CANARY in answers[0].body.decode()
        assert (served["message"], served["status"], served["completion_tokens"]) == ("served", 200, 5)
        assert served["trace_id"] == TRACE
        assert served["finish"] == "stop"
        assert (unknown["message"], unknown["status"], unknown["code"]) == ("refused", 404, "model_not_found")
        assert (broken["status"], health["status"]) == (400, 200)
        sinks = {"log": log.read_bytes(), "spans": b"".join(collector.got), "refusal": answers[2].body}
        assert list(sightings(sinks, [CANARY])) == []


async def test_a_flood_of_refusals_is_counted_and_not_written(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    async with running(Engine()) as engine, a_scene(engine.url) as scene, telling(scene, log=str(log)):
        for _ in range(2 * REFUSED_MAX // 5):
            await ask(scene.port, *[a_request(chat_body(model="nobodys"))] * 5)
        await until(lambda: len(lines(log)) >= 1)
        await ask(scene.port, a_request(chat_body()))
        await until(lambda: lines(log)[-1]["message"] == "served")

        assert 1 <= sum(each["message"] == "refused" for each in lines(log)) <= 2 * REFUSED_MAX


async def test_below_a_domain_the_address_names_the_endpoint() -> None:
    async with running(Engine()) as engine, a_scene(engine.url) as scene:
        scene.gateway.domain = "models.example"
        body = json.dumps({"messages": [{"role": "user", "content": "hi"}]}).encode()

        def to(host: str) -> bytes:
            return a_request(body).replace(b"host: r\r\n", f"host: {host}\r\n".encode())

        named, other = await ask(scene.port, to(f"{NAME}.models.example"), to("nobodys.models.example"))
        [plain] = await ask(scene.port, to("elsewhere"))

        assert (named.status, other.status, plain.status) == (200, 404, 400)
        assert plain.error["param"] == "model"


async def test_at_a_tenants_host_name_its_keys_find_the_endpoint_and_no_other_keys_do() -> None:
    body = json.dumps({"messages": [{"role": "user", "content": "hi"}]}).encode()

    def to(host: str, key: str = KEY.plaintext, asked: bytes = body) -> bytes:
        return a_request(asked, key=key).replace(b"host: r\r\n", f"host: {host}\r\n".encode())

    async with running(Engine()) as engine, a_scene(engine.url) as scene:
        scene.serve(engine.url, hostname="api.acme.example")
        named, loud = await ask(scene.port, to("api.acme.example"), to("API.acme.example:8443"))
        [foreign] = await ask(scene.port, to("api.acme.example", OTHER_KEY.plaintext))
        [other] = await ask(scene.port, to("api.acme.example", asked=chat_body(model="another")))
        scene.serve(engine.url)
        [gone] = await ask(scene.port, to("api.acme.example"))

        assert [each.status for each in (named, loud, foreign, other, gone)] == [200, 200, 404, 404, 400]
        assert foreign.error["code"] == other.error["code"] == "model_not_found"
        assert len(engine.requests) == 2
