"""Bad input gets OpenAI's error shape: never a stack trace, a hung connection or a request to the engine."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

from services.router.core.http_rules import CONTINUE
from services.router.shell.edge.intake import Intake
from tests.unit.router.engine import Engine, running
from tests.unit.router.scene import HEALTH, KEY, Answer, a_request, a_scene, ask, chat_body, read_answer

AUTH = f"authorization: Bearer {KEY.plaintext}\r\n".encode()
POST = b"POST /v1/chat/completions HTTP/1.1\r\n"
BODY = chat_body()
LENGTH = b"content-length: %d\r\n" % len(BODY)
CHUNKED = b"transfer-encoding: chunked\r\n"

HEADS = {
    "content length, then transfer encoding": POST + b"host: r\r\n" + AUTH + LENGTH + CHUNKED,
    "transfer encoding, then content length": POST + b"host: r\r\ntransfer-encoding: chunked\r\n" + AUTH + LENGTH,
    "two content lengths": POST + b"host: r\r\n" + AUTH + LENGTH + LENGTH,
    "a signed content length": POST + b"host: r\r\n" + AUTH + b"content-length: +5\r\n",
    "a space before the colon": POST + b"host : r\r\n" + AUTH + LENGTH,
    "a folded header": POST + b"host: r\r\nx: a\r\n b\r\n" + AUTH + LENGTH,
    "a header name that is no token": POST + b"host: r\r\nx(y): a\r\n" + AUTH + LENGTH,
    "a null in a value": POST + b"host: r\r\nx: a\x00b\r\n" + AUTH + LENGTH,
    "a bare line feed in the head": POST + b"host: r\nx: y\r\n" + AUTH + LENGTH,
    "only line feeds": (POST + b"host: r\r\n" + AUTH + LENGTH).replace(b"\r\n", b"\n"),
    "no host": POST + AUTH + LENGTH,
    "two hosts": POST + b"host: r\r\nhost: s\r\n" + AUTH + LENGTH,
    "an empty host": POST + b"host:\r\n" + AUTH + LENGTH,
    "a host with a blank": POST + b"host: r s\r\n" + AUTH + LENGTH,
    "a host with a path": POST + b"host: r/v1\r\n" + AUTH + LENGTH,
    "a host with a name before it": POST + b"host: u@r\r\n" + AUTH + LENGTH,
    "two hosts in one": POST + b"host: r,s\r\n" + AUTH + LENGTH,
    "two keys": POST + b"host: r\r\n" + AUTH + AUTH + LENGTH,
    "another transfer coding": POST + b"host: r\r\n" + AUTH + b"transfer-encoding: gzip, chunked\r\n",
    "a doubled transfer coding": POST + b"host: r\r\n" + AUTH + b"transfer-encoding: chunked\r\n" * 2,
    "an upgrade": POST + b"host: r\r\nconnection: upgrade\r\nupgrade: websocket\r\n" + AUTH + LENGTH,
    "an unknown expectation": POST + b"host: r\r\nexpect: tea\r\n" + AUTH + LENGTH,
    "a target on another host": b"POST http://other/v1/chat/completions HTTP/1.1\r\nhost: r\r\n" + AUTH + LENGTH,
    "an old version": POST.replace(b"1.1", b"1.0") + b"host: r\r\n" + AUTH + LENGTH,
    "a version of the future": POST.replace(b"1.1", b"2.0") + b"host: r\r\n" + AUTH + LENGTH,
    "a method that does not exist": POST.replace(b"POST", b"BREW") + b"host: r\r\n" + AUTH + LENGTH,
    "a tunnel": b"CONNECT other:443 HTTP/1.1\r\nhost: r\r\n" + AUTH,
    "a hundred headers": POST + b"host: r\r\n" + b"x: y\r\n" * 100 + AUTH + LENGTH,
    "headers of 20 KiB": POST + b"host: r\r\nx: " + b"y" * 20_000 + b"\r\n" + AUTH + LENGTH,
    "one header of 200 KiB": POST + b"host: r\r\nx: " + b"y" * 200_000 + b"\r\n" + AUTH + LENGTH,
    "a target of 5 KiB": b"POST /" + b"y" * 5_000 + b" HTTP/1.1\r\nhost: r\r\n" + AUTH + LENGTH,
    "a body of 11 MiB announced": POST + b"host: r\r\n" + AUTH + b"content-length: 11534336\r\n",
    "a TLS hello": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
}  # fmt: skip


async def say(port: int, data: bytes) -> tuple[Answer, bytes]:
    """The first answer to raw bytes, and whatever else comes before the connection is closed."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(data)
        answer = await read_answer(reader)
        rest = await asyncio.wait_for(reader.read(-1), 60)
    finally:
        writer.close()
    return answer, rest


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS.keys())
async def test_a_head_that_could_be_misread_is_refused_and_the_connection_closed(head: bytes) -> None:
    async with running(Engine()) as engine, a_scene(engine.url) as scene:
        smuggled = b"GET /healthz HTTP/1.1\r\nhost: r\r\n\r\n"
        answer, rest = await say(scene.port, head + b"\r\n" + BODY + smuggled)

        assert 400 <= answer.status < 506
        assert answer.error["type"] == "invalid_request_error"
        assert answer.headers["connection"] == "close"
        assert rest == b""
        assert engine.requests == []


CHUNKS = {
    "a size that is no number": b"zz\r\nab\r\n",
    "a negative size": b"-1\r\nab\r\n",
    "a chunk longer than said": b"1\r\nabc\r\n0\r\n\r\n",
    "a size beyond all sense": b"ffffffffffffffffff\r\n",
    "bare line feeds": b"1\na\n0\n\n",
}


@pytest.mark.parametrize("chunks", CHUNKS.values(), ids=CHUNKS.keys())
async def test_a_bad_chunk_is_refused(chunks: bytes) -> None:
    async with running(Engine()) as engine, a_scene(engine.url) as scene:
        head = POST + b"host: r\r\n" + AUTH + b"transfer-encoding: chunked\r\n\r\n"
        answer, rest = await say(scene.port, head + chunks)

        assert answer.status == 400
        assert rest == b""
        assert engine.requests == []


async def test_a_body_that_grows_beyond_the_limit_is_refused_while_it_comes() -> None:
    async with a_scene("http://127.0.0.1:9") as scene:
        reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
        writer.write(POST + b"host: r\r\n" + AUTH + b"transfer-encoding: chunked\r\n\r\n")
        for _ in range(11):
            writer.write(b"100000\r\n" + b" " * 0x100000 + b"\r\n")

        answer = await read_answer(reader)

        writer.close()
        assert (answer.status, answer.error["code"]) == (413, "request_too_large")


FLOODS = {
    "a trailer without an end": b"0\r\nx: " + b"a" * 100_000,
    "trailers without an end": b"0\r\n" + b"x: a\r\n" * 20_000,
    "an extension without an end": b"1;" + b"a" * 100_000,
    "chunks of one byte": b"1\r\na\r\n" * 100_000,
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS.keys())
@pytest.mark.parametrize(
    "head",
    [POST + b"host: r\r\n" + AUTH, b"OPTIONS /v1/models HTTP/1.1\r\nhost: r\r\n"],
    ids=["with a key", "without a key"],
)
async def test_more_around_a_body_than_in_it_is_refused_while_it_comes(head: bytes, flood: bytes) -> None:
    async with a_scene("http://127.0.0.1:9") as scene:
        reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
        writer.write(head + CHUNKED + b"expect: 100-continue\r\n\r\n")
        async with asyncio.timeout(30):
            assert await reader.readuntil(b"\r\n\r\n") == CONTINUE
        writer.write(flood)

        answer = await read_answer(reader)

        writer.close()
        assert answer.status == 400
        assert "more around them" in str(answer.error["message"])


async def test_what_can_not_be_read_behind_requests_that_take_no_time_is_refused_once() -> None:
    failed: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: failed.append(context))
    async with a_scene() as scene:
        answer, rest = await say(scene.port, HEALTH * 3 + b"GARBAGE\r\n\r\n")

        assert (answer.status, rest.count(b"HTTP/1.1 200"), rest.count(b"HTTP/1.1 400")) == (200, 2, 1)
    assert not failed


async def test_who_asks_on_and_reads_nothing_is_not_read_until_it_does() -> None:
    async with a_scene() as scene:
        own = socket.socket()
        own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # So that it takes little.
        own.connect(("127.0.0.1", scene.port))
        reader, writer = await asyncio.open_connection(sock=own, limit=1024)
        await scene.until(lambda: bool(scene.edge._connections))
        (connection,) = scene.edge._connections
        connection.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        asked = 0
        async with asyncio.timeout(60):
            while not connection._is_deaf:
                before, asked = connection.written, asked + 4
                writer.write(HEALTH * 4)
                while connection.written == before and not connection._is_deaf:
                    await asyncio.sleep(0)
            for _ in range(asked):
                await read_answer(reader)

        writer.close()
        assert not connection._is_deaf


@pytest.mark.parametrize("line", [b"OPTIONS /v1/models HTTP/1.1\r\n", b"GET /healthz HTTP/1.1\r\n"])
def test_a_body_of_somebody_without_a_key_is_read_and_not_kept(line: bytes) -> None:
    intake = Intake(lambda _head, _peer: None)
    for _ in range(2):  # The second time by a head that is known.
        intake.feed(line + b"host: r\r\ncontent-length: 9000\r\n\r\n" + b"x" * 4000)
        intake.feed(b"x" * 5000)
    intake.feed(line + b"host: r\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n")

    assert [(each.body_bytes, each.body()) for each in intake.ready] == [(9000, b""), (9000, b""), (3, b"")]


async def test_a_body_in_chunks_of_a_few_bytes_is_read_whole() -> None:
    async with running(Engine()) as engine, a_scene(engine.url) as scene:
        body = chat_body(messages=[{"role": "user", "content": "word " * 400}])
        pieces = [body[at : at + 2] for at in range(0, len(body), 2)]
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in pieces)
        answers = await ask(scene.port, POST + b"host: r\r\n" + AUTH + CHUNKED + b"\r\n" + chunks + b"0\r\n\r\n")

        assert [each.status for each in answers] == [200]
        assert engine.requests[0]["messages"] == [{"role": "user", "content": "word " * 400}]


BODIES: dict[str, tuple[bytes, int, str | None]] = {
    "nothing": (b"", 400, None),
    "not JSON": (b"hello", 400, None),
    "half of it": (BODY[:20], 400, None),
    "bytes that are no text": (b'{"model":"\xff\xfe","messages":[]}', 400, None),
    "text that is none in what only an engine reads": (chat_body(stop="?").replace(b"?", b"\xff"), 400, None),
    "a list": (b"[]", 400, None),
    "no model": (b'{"messages":[{"role":"user","content":"x"}]}', 400, "model"),
    "no messages": (b'{"model":"chatty"}', 400, "messages"),
    "no message": (chat_body(messages=[]), 400, "messages"),
    "a model that is a number": (chat_body(model=5), 400, "model"),
    "messages that are text": (chat_body(messages="hi"), 400, "messages"),
    "content that is a number": (chat_body(messages=[{"role": "user", "content": 5}]), 400, "messages[0].content"),
    "max_tokens that is text": (chat_body(max_tokens="many"), 400, "max_tokens"),
    "no tokens": (chat_body(max_tokens=0), 400, "max_tokens"),
    "more tokens than exist": (chat_body(max_tokens=10**9), 400, "max_tokens"),
    "a stream that is text": (chat_body(stream="yes"), 400, "stream"),
    "stream options without a stream": (chat_body(stream_options={"include_usage": True}), 400, "stream_options"),
    "a hundred choices": (chat_body(n=100), 400, "n"),
    "somebody's cache salt": (chat_body(cache_salt="x"), 400, "cache_salt"),
    "a priority": (chat_body(priority=9), 400, "priority"),
    "a picture": (
        chat_body(messages=[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}]),
        400,
        "messages[0].content[0].type",
    ),
    "a thousand levels": (chat_body(logit_bias=0).replace(b"0", b"[" * 1000 + b"]" * 1000), 400, None),
    "a hundred thousand levels": (b"[" * 100_000, 400, None),
    "an unknown model": (chat_body(model="nobodys"), 404, "model"),
}


@pytest.mark.parametrize(("body", "status", "param"), BODIES.values(), ids=BODIES.keys())
async def test_a_body_that_can_not_be_served_is_refused_by_name_and_the_connection_stays(
    body: bytes, status: int, param: str | None
) -> None:
    async with running(Engine()) as engine, a_scene(engine.url) as scene:
        refused, after = await ask(scene.port, a_request(body), b"GET /healthz HTTP/1.1\r\nhost: r\r\n\r\n")

        assert (refused.status, refused.error["param"]) == (status, param)
        assert after.status == 200
        assert engine.requests == []
        assert scene.journal.backlog() == 0


@pytest.mark.parametrize(
    "key",
    ["", "nonsense", KEY.plaintext[:-1] + "!", KEY.plaintext.upper()],
    ids=["empty", "nonsense", "of another form", "in capitals"],
)
async def test_a_wrong_key_is_refused_before_the_body_is_read(key: str) -> None:
    async with a_scene("http://127.0.0.1:9") as scene:
        reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
        writer.write(b"POST /v1/chat/completions HTTP/1.1\r\nhost: r\r\nauthorization: Bearer %s\r\n" % key.encode())
        writer.write(b"expect: 100-continue\r\ncontent-length: 1000000\r\n\r\n")

        answer = await read_answer(reader)

        writer.close()
        assert (answer.status, answer.error["code"]) == (401, "invalid_api_key")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/chat/completions", 405),
        ("POST", "/v1/models", 405),
        ("GET", "/", 404),
        ("GET", "/v1/../healthz", 404),
    ],
)
async def test_what_is_not_served_is_said_so(method: str, path: str, status: int) -> None:
    async with a_scene("http://127.0.0.1:9") as scene:
        answer, _ = await say(scene.port, f"{method} {path} HTTP/1.1\r\nhost: r\r\n".encode() + AUTH + b"\r\n")

        assert answer.status == status
        assert ("allow" in answer.headers) is (status == 405)
        assert set(json.loads(answer.body)["error"]) == {"message", "type", "param", "code"}


async def test_a_flood_of_pipelined_requests_is_cut_off_politely() -> None:
    async with running(Engine(first_delay_s=0.3)) as engine, a_scene(engine.url) as scene:
        _, rest = await say(scene.port, a_request(BODY) * 20)

        assert rest.count(b"HTTP/1.1 400") == 1
        assert len(engine.requests) < 12


async def test_a_head_that_never_ends_is_given_up() -> None:
    async with a_scene("http://127.0.0.1:9") as scene:
        reader, writer = await asyncio.open_connection("127.0.0.1", scene.port)
        writer.write(POST + b"host: r\r\n")
        await asyncio.sleep(0.05)
        (connection,) = scene.edge._connections

        connection.sweep(scene.gateway.now_s() + 11)

        answer = await read_answer(reader)
        writer.close()
        assert answer.status == 408
