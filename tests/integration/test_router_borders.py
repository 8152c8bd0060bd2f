"""Router and engine read the same bytes the same way: a client's tricks with HTTP reach no engine.

The engine is the twin's model server in its own HTTP server, so two real parsers stand behind one another.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from libs.common import web
from libs.common.clock import SystemClock
from libs.twin.model.app import Engine, EngineOptions
from libs.twin.model.ngram import NgramModel
from services.router.core import refusals
from services.router.shell.edge import connection, server
from services.router.shell.edge.intake import Reading
from tests.support.certificates import self_signed
from tests.support.ports import free_port
from tests.unit.router.scene import KEY, Scene, a_request, a_scene, ask, chat_body

Message = MutableMapping[str, Any]
AUTH = f"authorization: Bearer {KEY.plaintext}\r\n".encode()
POST = b"POST /v1/chat/completions HTTP/1.1\r\n"
HEAD = POST + b"host: r\r\n" + AUTH
BODY = chat_body(max_tokens=2)
HIDDEN = a_request(chat_body(max_tokens=2, messages=[{"role": "user", "content": "smuggled"}]))
LENGTH = b"content-length: %d\r\n" % len(BODY)
CHUNKED = b"transfer-encoding: chunked\r\n"
OFFER = b"connection: Upgrade, HTTP2-Settings\r\nhttp2-settings: AAEAAEAAAAIAAAAB\r\nupgrade: h2c\r\n"
LAST = b"0\r\n\r\n"
CHUNK = b"%x\r\n%s\r\n" % (len(BODY), BODY)


@dataclass
class Counted:
    """The twin's engine, and what reached it."""

    port: int
    app: Callable[..., Awaitable[None]]
    seen: list[bytes] = field(default_factory=list)

    async def __call__(self, scope: Message, receive: Callable[[], Awaitable[Message]], send: Any) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        body, more = b"", True
        while more:
            part = await receive()
            body, more = body + part.get("body", b""), part.get("more_body", False)
        self.seen.append(body)
        told = [{"type": "http.request", "body": body, "more_body": False}]

        async def again() -> Message:
            return told.pop() if told else await receive()

        await self.app(scope, again, send)


@contextlib.asynccontextmanager
async def borders(**more: Any) -> AsyncIterator[tuple[Scene, Counted]]:
    """A router in front of the twin's engine."""
    options = EngineOptions(models=("millrace/ngram-1",), tokens_per_second=0)
    engine = Counted(free_port(), Engine(NgramModel.trained(order=2), options, SystemClock()))
    serving = asyncio.create_task(web.serve(engine, host="127.0.0.1", port=engine.port))
    async with asyncio.timeout(30):
        while True:
            with contextlib.suppress(OSError):
                (await asyncio.open_connection("127.0.0.1", engine.port))[1].close()
                break
            await asyncio.sleep(0.02)
    try:
        async with a_scene(f"http://127.0.0.1:{engine.port}", **more) as scene:
            yield scene, engine
    finally:
        serving.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await serving


async def exchange(port: int, data: bytes, **more: Any) -> bytes:
    """Everything that comes back for raw bytes, until the other side closes or has said nothing for a while."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, **more)
    seen = b""
    try:
        writer.write(data)
        with contextlib.suppress(TimeoutError, ConnectionError):
            while more_ := await asyncio.wait_for(reader.read(65536), 1.0):
                seen += more_
    finally:
        writer.close()
    return seen


def statuses(seen: bytes) -> list[int]:
    """Of each answer; our bodies hold no line that looks like one."""
    return [int(part[:3]) for part in seen.split(b"HTTP/1.1 ")[1:]]


# What is sent, and how many requests it is for the router: so many may reach the engine and are answered 200.
CORPUS = {
    "CL.TE: a length that ends early": (HEAD + b"content-length: 4\r\n" + CHUNKED + b"\r\n0\r\n\r\n" + HIDDEN, 0),
    "TE.CL: a chunk that ends early": (HEAD + CHUNKED + b"content-length: 4\r\n\r\n" + CHUNK + LAST + HIDDEN, 0),
    "TE.TE: one of two is odd": (HEAD + CHUNKED + b"transfer-encoding: x\r\n\r\n" + CHUNK + b"0\r\n\r\n" + HIDDEN, 0),
    "TE with a tab": (HEAD + b"transfer-encoding:\tchunked\r\n\r\n" + CHUNK + b"0\r\n\r\n", 1),
    "TE with a vertical tab": (HEAD + b"transfer-encoding: \x0bchunked\r\n\r\n" + CHUNK + b"0\r\n\r\n" + HIDDEN, 0),
    "TE, identity": (HEAD + b"transfer-encoding: identity\r\n" + LENGTH + b"\r\n" + BODY + HIDDEN, 0),
    "TE in the name of another": (HEAD + b"transfer_encoding: chunked\r\n" + LENGTH + b"\r\n" + BODY, 1),
    "CL.0: a body that is a request": (HEAD + b"content-length: 0\r\n\r\n" + HIDDEN, 1),
    "a length and more than that": (HEAD + LENGTH + b"\r\n" + BODY + b"GET /", 1),
    "two lengths that differ": (HEAD + b"content-length: 0\r\n" + LENGTH + b"\r\n" + BODY + HIDDEN, 0),
    "two lengths in one": (HEAD + b"content-length: %d, %d\r\n\r\n" % (len(BODY), len(BODY)) + BODY + HIDDEN, 0),
    "a length +27": (HEAD + b"content-length: +%d\r\n\r\n" % len(BODY) + BODY + HIDDEN, 0),
    "a length -1": (HEAD + b"content-length: -1\r\n\r\n" + BODY + HIDDEN, 0),
    "a length 0x1b": (HEAD + b"content-length: 0x%x\r\n\r\n" % len(BODY) + BODY + HIDDEN, 0),
    "a length 1_0": (HEAD + b"content-length: 1_0\r\n\r\n" + BODY + HIDDEN, 0),
    "a length of twenty digits": (HEAD + b"content-length: 18446744073709551617\r\n\r\n" + BODY + HIDDEN, 0),
    "a length after a fold": (HEAD + b"x: y\r\n content-length: 4\r\n" + LENGTH + b"\r\n" + BODY + HIDDEN, 0),
    "a length behind a space": (HEAD + b"content-length : 4\r\n\r\n" + BODY + HIDDEN, 0),
    "a length after a null": (HEAD + b"x: a\x00\r\n" + LENGTH + b"\r\n" + BODY + HIDDEN, 0),
    "a bare LF before a length": (HEAD + b"x: y\n" + LENGTH + b"\r\n" + BODY + HIDDEN, 0),
    "a bare CR before a length": (HEAD + b"x: y\r" + LENGTH + b"\r\n" + BODY + HIDDEN, 0),
    "an end of the head by LF": (HEAD + LENGTH + b"\n" + BODY + HIDDEN, 0),
    "a chunk size with a sign": (HEAD + CHUNKED + b"\r\n+" + CHUNK + b"0\r\n\r\n" + HIDDEN, 0),
    "a chunk size 0x": (HEAD + CHUNKED + b"\r\n0x" + CHUNK + b"0\r\n\r\n" + HIDDEN, 0),
    "a chunk size too large for 64 bits": (HEAD + CHUNKED + b"\r\nfffffffffffffffff\r\n" + BODY + HIDDEN, 0),
    "a chunk size behind a space": (HEAD + CHUNKED + b"\r\n " + CHUNK + b"0\r\n\r\n" + HIDDEN, 0),
    "a chunk without its CRLF": (HEAD + CHUNKED + b"\r\n" + CHUNK[:-2] + b"0\r\n\r\n" + HIDDEN, 0),
    "a chunk that ends with LF": (HEAD + CHUNKED + b"\r\n" + CHUNK.replace(b"\r\n", b"\n") + b"0\r\n\r\n" + HIDDEN, 0),
    "a chunk extension": (HEAD + CHUNKED + b"\r\n" + CHUNK.replace(b"\r\n", b";a=b\r\n", 1) + b"0\r\n\r\n", 1),
    "a chunk extension with LF": (
        HEAD + CHUNKED + b"\r\n" + CHUNK.replace(b"\r\n", b";a\nb\r\n", 1) + b"0\r\n\r\n" + HIDDEN, 0,
    ),
    "a last chunk 00": (HEAD + CHUNKED + b"\r\n" + CHUNK + b"00\r\n\r\n", 1),
    "trailers that look like a head": (HEAD + CHUNKED + b"\r\n" + CHUNK + b"0\r\nhost: x\r\nx-y: z\r\n\r\n", 1),
    "a trailer that is a length": (HEAD + CHUNKED + b"\r\n" + CHUNK + b"0\r\ncontent-length: 9\r\n\r\n" + HIDDEN, 0),
    "two hosts": (POST + b"host: r\r\nhost: evil\r\n" + AUTH + LENGTH + b"\r\n" + BODY + HIDDEN, 0),
    "two keys": (HEAD + AUTH.replace(b"Bearer ", b"Bearer x") + LENGTH + b"\r\n" + BODY + HIDDEN, 0),
    "a key in another case, twice": (HEAD + AUTH.replace(b"auth", b"AUTH") + LENGTH + b"\r\n" + BODY + HIDDEN, 0),
    "a target with a space": (POST.replace(b" HTTP", b" x HTTP") + AUTH + LENGTH + b"\r\n" + BODY + HIDDEN, 0),
    "a target with a CR": (POST.replace(b"s HTTP", b"s\r HTTP") + AUTH + LENGTH + b"\r\n" + BODY + HIDDEN, 0),
    "a version without a number": (POST.replace(b"1.1", b"1.") + AUTH + LENGTH + b"\r\n" + BODY + HIDDEN, 0),
    "HTTP/0.9": (b"POST /v1/chat/completions\r\n" + HIDDEN, 0),
    "a GET with a body that is a request": (
        b"GET /v1/models HTTP/1.1\r\nhost: r\r\n" + AUTH + b"content-length: %d\r\n\r\n" % len(HIDDEN) + HIDDEN, 1,
    ),
    "three in one": (a_request(BODY) * 3, 3),
    "three in one, the second in chunks": (
        a_request(BODY) + HEAD + CHUNKED + b"\r\n" + CHUNK + b"0\r\n\r\n" + a_request(BODY), 3,
    ),
    "one, then nonsense": (a_request(BODY) + b"\x00\x01\x02 nonsense\r\n\r\n" + HIDDEN, 1),
    "an HTTP/2 preface": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + HIDDEN, 0),
    "an upgrade, then another protocol": (
        HEAD + b"connection: upgrade\r\nupgrade: websocket\r\n" + LENGTH + b"\r\n" + BODY + HIDDEN, 0,
    ),
    "an offer of HTTP/2 that is taken for accepted": (
        HEAD + OFFER + LENGTH + b"\r\n" + BODY + b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + HIDDEN, 1,
    ),
    "hop by hop: the key": (HEAD + b"connection: authorization\r\n" + LENGTH + b"\r\n" + BODY, 1),
}  # fmt: skip
# Answered by us alone, or by an engine that takes no offer of another protocol.
NOT_AT_THE_ENGINE = {"a GET with a body that is a request", "CL.0: a body that is a request"}
NOT_ALONE = {*NOT_AT_THE_ENGINE, "an offer of HTTP/2 that is taken for accepted"}


async def test_of_a_corpus_of_tricks_the_engine_sees_what_the_client_was_answered_and_no_more() -> None:
    async with borders() as (scene, engine):
        for name, (data, served) in CORPUS.items():
            engine.seen.clear()
            said = statuses(await exchange(scene.port, data))
            at_engine = [json.loads(each)["messages"][0]["content"] for each in engine.seen]

            if name == "CL.0: a body that is a request":
                assert (said, at_engine) == ([400, 200], ["smuggled"]), name  # Pipelined in the open, and asked for.
            elif name in NOT_AT_THE_ENGINE:
                assert (said, at_engine) == ([200], []), name
            else:
                assert at_engine == ["hi"] * served, name
                assert [each for each in said if each == 200] == [200] * served, (name, said)
                assert all(each in (200, 400, 408, 501, 505) for each in said), (name, said)
                assert said or not served, name
            (after,) = await ask(scene.port, a_request(BODY))
            assert (after.status, engine.seen[-1]) == (200, engine.seen[-1]), name
            assert b"smuggled" not in engine.seen[-1], name
        assert scene.table.live_total() == 0


async def test_the_same_bytes_are_what_they_are_for_the_engine_too() -> None:
    """Where the engine's parser accepts what ours refuses, ours stands before it; the other way round must not be."""
    async with borders() as (scene, engine):
        for name, (data, served) in CORPUS.items():
            if not served or name in NOT_ALONE:
                continue
            engine.seen.clear()
            await exchange(engine.port, data)
            direct = len(engine.seen)
            engine.seen.clear()
            await exchange(scene.port, data)
            assert len(engine.seen) == direct == served, name


async def test_an_offer_of_http2_as_the_jdk_makes_with_each_request_is_left_and_the_request_served() -> None:
    look = b"GET /v1/models HTTP/1.1\r\nhost: r\r\n" + AUTH + OFFER + b"\r\n"
    whole = HEAD + OFFER + LENGTH + b"\r\n" + BODY
    async with borders() as (scene, engine):
        for each in (look, whole, look + whole + whole + a_request(BODY) + look):
            count = each.count(OFFER)
            assert [said.status for said in await ask(scene.port, *([each] + [b""] * (count - 1)))] == [200] * count

        assert len(engine.seen) == 4
        assert not [each for each in engine.seen if b"smuggled" in each]


async def test_head_and_options_are_answered_without_a_body_and_the_connection_stays() -> None:
    async with a_scene("http://127.0.0.1:9") as scene:
        look = b"HEAD /v1/models HTTP/1.1\r\nhost: r\r\n" + AUTH + b"\r\n"
        gone = b"HEAD /v1/models/none HTTP/1.1\r\nhost: r\r\n" + AUTH + b"\r\n"
        options = b"OPTIONS /v1/chat/completions HTTP/1.1\r\nhost: r\r\n\r\n"
        healthy = b"GET /healthz HTTP/1.1\r\nhost: r\r\nconnection: close\r\n\r\n"

        seen = await exchange(scene.port, look + gone + options + healthy)

        assert statuses(seen) == [200, 404, 204, 200]
        heads = seen.split(b"HTTP/1.1 ")[1:]
        assert all(each.endswith(b"\r\n\r\n") for each in heads[:3])
        assert b"content-length: " in heads[0]
        assert b"allow: POST, OPTIONS\r\n" in heads[2]
        assert b"content-length" not in heads[2]
        assert heads[3].endswith(b'{"status":"ok"}')


async def test_whether_an_answer_has_a_body_is_said_by_its_own_request() -> None:
    unknown = b"authorization: Bearer nobody\r\nx-request-id: mine\r\n\r\n"
    async with a_scene("http://127.0.0.1:9") as scene:
        head = await exchange(scene.port, b"HEAD /v1/models HTTP/1.1\r\nhost: r\r\n" + unknown)
        after = await exchange(
            scene.port,
            b"HEAD /healthz HTTP/1.1\r\nhost: r\r\n\r\n" + b"GET /v1/models HTTP/1.1\r\nhost: r\r\n" + unknown,
        )

    assert statuses(head) == [401]
    assert head.endswith(b"\r\n\r\n")
    assert statuses(after) == [200, 401]
    assert after.endswith(refusals.invalid_key().body())
    for each in (head, after):
        assert b"x-request-id: mine\r\n" in each
        assert b"www-authenticate: Bearer" in each


async def test_a_body_that_is_written_too_slowly_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = {Reading.NOTHING: 60.0, Reading.HEAD: 60.0, Reading.BODY: 0.3}
    monkeypatch.setattr(connection, "WAIT_S", MappingProxyType(waits))
    monkeypatch.setattr(server, "EMPTY_S", 3600.0)  # So it is the client that has us look.
    async with a_scene("http://127.0.0.1:9") as scene:
        reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
        writer.write(HEAD + LENGTH + b"\r\n")
        seen = b""
        with contextlib.suppress(ConnectionError):
            async with asyncio.timeout(30):
                for each in BODY:
                    if seen:
                        break
                    with contextlib.suppress(ConnectionError):
                        writer.write(bytes([each]))
                    with contextlib.suppress(TimeoutError):
                        seen += await asyncio.wait_for(reader.read(65536), 0.1)
        writer.close()

    assert statuses(seen) == [408]


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A certificate for localhost, and its key in the same file."""
    return self_signed(tmp_path_factory.mktemp("tls"))


async def test_tls_ends_here_and_a_plain_client_is_not_answered(certificate: Path) -> None:
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    client = ssl.create_default_context(cafile=str(certificate))
    async with borders(tls=server) as (scene, engine):
        more = {"ssl": client, "server_hostname": "localhost"}
        stream = a_request(chat_body(max_tokens=3, stream=True))

        seen = await exchange(scene.port, a_request(BODY) + stream + POST + b"\r\n", **more)
        plain = await exchange(scene.port, a_request(BODY))

        assert statuses(seen) == [200, 200, 400]
        assert b"data: [DONE]" in seen
        assert (plain, len(engine.seen)) == (b"", 2)


async def test_the_load_balancer_says_who_the_client_is_and_nobody_else_may() -> None:
    entry = KEY.key_id
    async with borders(trusted="127.0.0.0/8") as (scene, engine):
        held = scene.gateway.keyring._held[entry][0]
        scene.gateway.keyring.change(entry, held.model_copy(update={"allowed_ips": ("192.0.2.0/24",)}))
        good, bad = b"PROXY TCP4 192.0.2.7 10.0.0.1 5 80\r\n", b"PROXY TCP4 198.51.100.7 10.0.0.1 5 80\r\n"

        assert statuses(await exchange(scene.port, good + a_request(BODY))) == [200]
        assert statuses(await exchange(scene.port, bad + a_request(BODY))) == [401]
        assert await exchange(scene.port, a_request(BODY)) == b""
        assert len(engine.seen) == 1
    async with borders(trusted="10.0.0.0/8") as (scene, engine):
        assert await exchange(scene.port, good + a_request(BODY)) == b""
        assert engine.seen == []
