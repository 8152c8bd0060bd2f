"""A small model server over real sockets that speaks as vLLM does, and misbehaves on request."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

PROMPT_TOKENS = 5


@dataclass
class Engine:
    """What it does with each request, and what it saw. Settable while it runs."""

    tokens: int = 5
    delay_s: float = 0.0
    first_delay_s: float = 0.0
    per_event: int = 1  # Tokens in one event.
    running_usage: bool = True
    text: str = "tok "
    die_after: int | None = None  # Breaks off after so many events.
    garbage_after: int | None = None
    status: int = 200
    error_body: bytes = b'{"error":{"message":"too long","type":"BadRequestError","code":400}}'
    close_after_answer: bool = False
    idle_s: float | None = None  # Closes a kept connection that idles this long.
    refuse_connections: int = 0  # So many of the next connections are closed before an answer.
    names: frozenset[str] | None = None  # What it answers to; None: to everything.
    gate: asyncio.Event | None = None  # Nothing is answered before it is set.
    raw_answer: bytes | None = None
    forget_done: bool = False
    unasked: bytes = b""  # Said right behind each answer that is not streamed.
    host: str = "127.0.0.1"
    port: int = 0
    requests: list[dict[str, object]] = field(default_factory=list)
    heads: list[bytes] = field(default_factory=list)
    connections: int = 0
    aborted: int = 0
    produced: int = 0
    in_flight: int = 0
    in_flight_max: int = 0

    @property
    def url(self) -> str:
        return f"http://[{self.host}]:{self.port}" if ":" in self.host else f"http://{self.host}:{self.port}"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            if self.refuse_connections:
                self.refuse_connections -= 1
                await reader.readuntil(b"\r\n\r\n")
                return
            while await self._one(reader, writer):
                pass
        except (ConnectionError, asyncio.IncompleteReadError, TimeoutError, asyncio.CancelledError):
            pass  # The other side left, or the test ended.
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        async with asyncio.timeout(self.idle_s):
            head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        body = json.loads(await reader.readexactly(length))
        self.heads.append(head)
        self.requests.append(body)
        self.in_flight += 1
        self.in_flight_max = max(self.in_flight, self.in_flight_max)
        try:
            return await self._answered(writer, body)
        finally:
            self.in_flight -= 1

    async def _answered(self, writer: asyncio.StreamWriter, body: dict[str, object]) -> bool:
        if self.gate is not None:
            await self.gate.wait()
        await asyncio.sleep(self.first_delay_s)
        if self.raw_answer is not None:
            writer.write(self.raw_answer)
            await writer.drain()
            return False
        if self.names is not None and body["model"] not in self.names:
            self._whole(writer, 404, b'{"error":{"message":"The model does not exist.","code":404}}')
        elif self.status != 200:
            self._whole(writer, self.status, self.error_body)
        elif body.get("stream"):
            if not await self._stream(writer, body, chat="messages" in body):
                return False
        else:
            await asyncio.sleep(self.delay_s * self._wanted(body))
            self._whole(writer, 200, json.dumps(self._answer(body)).encode())
        await writer.drain()
        return not self.close_after_answer

    def _wanted(self, body: dict[str, object]) -> int:
        limit = body.get("max_completion_tokens") or body.get("max_tokens")
        return min(self.tokens, limit) if isinstance(limit, int) else self.tokens

    def _reason(self, body: dict[str, object]) -> str:
        return "length" if self._wanted(body) < self.tokens else "stop"

    def _whole(self, writer: asyncio.StreamWriter, status: int, body: bytes) -> None:
        head = f"HTTP/1.1 {status} X\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        writer.write(head.encode() + body + self.unasked)

    def _answer(self, body: dict[str, object]) -> dict[str, object]:
        count = self._wanted(body)
        self.produced += count
        text = self.text * count
        inner = {"message": {"role": "assistant", "content": text}} if "messages" in body else {"text": text}
        return {
            "id": "cmpl-1", "object": "chat.completion" if "messages" in body else "text_completion", "created": 1,
            "model": body["model"],
            "choices": [{"index": 0, "finish_reason": self._reason(body), **inner}],
            "usage": usage(count),
        }  # fmt: skip

    async def _stream(self, writer: asyncio.StreamWriter, body: dict[str, object], *, chat: bool) -> bool:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        if chat:
            self._event(writer, body, {"role": "assistant", "content": ""}, 0, None, chat=chat)
        count = 0
        wanted = self._wanted(body)
        events = 0
        while count < wanted:
            if events == self.die_after:
                await writer.drain()
                writer.transport.abort()
                return False
            if events == self.garbage_after:
                writer.write(b"9\r\ndata: {{{\r\n2\r\n\n\n\r\n")
            if self.delay_s:
                await asyncio.sleep(self.delay_s)
            if writer.transport.is_closing():
                self.aborted += 1
                return False
            step = min(self.per_event, wanted - count)
            count += step
            self.produced += step
            events += 1
            delta = {"content": self.text * step} if chat else None
            self._event(writer, body, delta, count, None, chat=chat, text=self.text * step)
            try:
                await writer.drain()
            except ConnectionError:
                self.aborted += 1
                return False
        self._event(writer, body, {} if chat else None, count, self._reason(body), chat=chat)
        if isinstance(body.get("stream_options"), dict):
            final = {
                "id": "c",
                "object": "x",
                "created": 1,
                "model": body["model"],
                "choices": [],
                "usage": usage(count),
            }
            self._chunk(writer, final)
        if not self.forget_done:
            writer.write(b"e\r\ndata: [DONE]\n\n\r\n")
        writer.write(b"0\r\n\r\n")
        return True

    def _event(
        self,
        writer: asyncio.StreamWriter,
        body: dict[str, object],
        delta: dict[str, str] | None,
        count: int,
        reason: str | None,
        *,
        chat: bool,
        text: str = "",
    ) -> None:
        inner = {"delta": delta} if chat else {"text": text}
        event: dict[str, object] = {
            "id": "cmpl-1", "object": "chat.completion.chunk" if chat else "text_completion", "created": 1,
            "model": body["model"], "choices": [{"index": 0, **inner, "finish_reason": reason}],
        }  # fmt: skip
        options = body.get("stream_options")
        if self.running_usage and isinstance(options, dict) and options.get("continuous_usage_stats"):
            event["usage"] = usage(count)
        self._chunk(writer, event)

    def _chunk(self, writer: asyncio.StreamWriter, event: dict[str, object]) -> None:
        data = b"data: " + json.dumps(event, separators=(",", ":")).encode() + b"\n\n"  # As engines do: no spaces.
        writer.write(b"%x\r\n%s\r\n" % (len(data), data))


def usage(count: int) -> dict[str, object]:
    return {
        "prompt_tokens": PROMPT_TOKENS, "completion_tokens": count, "total_tokens": PROMPT_TOKENS + count,
        "prompt_tokens_details": {"cached_tokens": 0},
    }  # fmt: skip


@contextlib.asynccontextmanager
async def running(engine: Engine) -> AsyncIterator[Engine]:
    """The engine, listening on a free port."""
    server = await asyncio.start_server(engine.handle, engine.host, 0)
    engine.port = server.sockets[0].getsockname()[1]
    try:
        yield engine
    finally:
        server.close()
