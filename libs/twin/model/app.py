"""The engine as an ASGI application: health, models, completions, responses, embeddings, metrics."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass, field
from typing import Any, Final

from libs.common.clock import Clock
from libs.twin.model import adapters, embedding, shapes
from libs.twin.model.errors import BadRequest
from libs.twin.model.generation import Outcome, script_for, scripted, tokens
from libs.twin.model.items import ItemHead, numbered, read_items
from libs.twin.model.metrics import EngineMetrics
from libs.twin.model.ngram import NgramModel, tokenize
from libs.twin.model.prefix_cache import PrefixCache
from libs.twin.model.requests import Asked, read
from libs.twin.model.rules import Script

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

BODY_BYTES_MAX: Final = 8 * 1024 * 1024
STREAM_HEADERS: Final = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
NOT_FOUND: Final = BadRequest("Not Found", status=404, kind="NotFoundError")


class Disconnected(Exception):
    """The caller is gone."""


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """How this engine behaves."""

    models: tuple[str, ...]
    tokens_per_second: float = 60.0  # Per request; 0 is as fast as possible.
    load_ms: int = 0
    context_tokens: int = 8_192
    requests_max: int = 256  # vLLM's max-num-seqs: more than these wait.
    fails_after: int | None = None  # Answers so many requests, and 500 to all others; None: never fails.
    cache_tokens: int = 400_000
    cache_blocks: int = 25_000  # As many as fit into `cache_tokens`.


@dataclass(slots=True)
class Live:
    """One request in the engine."""

    asked: Asked
    receive: Receive
    script: Script | None
    outcome: Outcome = field(default_factory=Outcome)
    sent: int = 0


class Engine:
    """Serves one model."""

    def __init__(self, model: NgramModel, options: EngineOptions, clock: Clock) -> None:
        self._model = model
        self._options = options
        self._clock = clock
        self._started_ms = clock.now_ms()
        self._metrics = EngineMetrics(options.models[0])
        self._slots = asyncio.Semaphore(options.requests_max)
        self._adapters = adapters.Adapters()
        self._prefixes = PrefixCache(options.cache_blocks)
        self._count = 0
        self._cached_tokens = 0

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        if scope["type"] != "http":
            return
        try:
            await self._route(scope["method"], scope["path"], receive, send)
        except BadRequest as wrong:
            await _json(send, shapes.error(wrong), wrong.status)
        except Disconnected:
            self._metrics.finished("abort")

    async def _route(self, method: str, path: str, receive: Receive, send: Send) -> None:
        match method, path:
            case "GET", "/health":
                await _raw(send, b"", 200 if self._is_loaded() else 503)
            case "GET", "/metrics":
                await _raw(send, self._metrics.text(), kind="text/plain; version=0.0.4; charset=utf-8")
            case "GET", "/v1/models":
                created_s = self._started_ms // 1000
                listed = shapes.models(self._options.models, created_s, self._options.context_tokens)
                listed["data"] += self._adapters.cards(self._options.models[0], created_s)
                await _json(send, listed)
            case "POST", adapters.LOAD | adapters.UNLOAD:
                body = await self._loaded_body(receive)
                said = self._adapters.load(body) if path == adapters.LOAD else self._adapters.unload(body)
                await _raw(send, said.encode())
            case "POST", "/v1/chat/completions" | "/v1/completions":
                await self._complete(path.startswith("/v1/chat"), receive, send)
            case "POST", "/v1/responses":
                await self._respond(receive, send)
            case "POST", "/v1/embeddings":
                await self._embed(receive, send)
            case "GET", "/version":
                await _json(send, {"version": "twin"})
            case _:
                raise NOT_FOUND

    @property
    def _names(self) -> tuple[str, ...]:
        """What a request may ask for: the model by any of its names, or an adapter."""
        return (*self._options.models, *self._adapters.loaded)

    def _is_loaded(self) -> bool:
        return self._clock.now_ms() >= self._started_ms + self._options.load_ms

    async def _loaded_body(self, receive: Receive) -> bytes:
        body = await _body(receive)
        if not self._is_loaded():
            raise BadRequest("the model is still loading", status=503, kind="ServiceUnavailableError")
        return body

    async def _embed(self, receive: Receive, send: Send) -> None:
        body, options = await self._loaded_body(receive), self._options
        asked = embedding.read(body, models=self._names, context_tokens=options.context_tokens)
        self._metrics.prompt_tokens.inc(sum(len(text) for text in asked.texts))
        await _json(send, embedding.answer(asked, self._model))
        self._metrics.finished("stop")

    async def _complete(self, is_chat: bool, receive: Receive, send: Send) -> None:
        body, options = await self._loaded_body(receive), self._options
        asked = read(body, is_chat=is_chat, models=self._names, context_tokens=options.context_tokens)
        prefix = "chatcmpl" if is_chat else "cmpl"
        live, (id_, created_s, cached) = self._begin(asked, receive)
        head = shapes.Head(f"{prefix}-{id_}", created_s, asked, live.script, cached)
        await self._answer(head, live, send, self._stream(head, live, send) if asked.stream else None)

    async def _respond(self, receive: Receive, send: Send) -> None:
        body, options = await self._loaded_body(receive), self._options
        asked, given = read_items(body, models=self._names, context_tokens=options.context_tokens)
        live, (id_, created_s, cached) = self._begin(asked, receive)
        head = ItemHead(id_, created_s, asked, given, live.script, cached)
        await self._answer(head, live, send, self._stream_items(head, live, send) if asked.stream else None)

    def _begin(self, asked: Asked, receive: Receive) -> tuple[Live, tuple[str, int, int]]:
        """A request that was understood, with its id, its time in seconds, and what of its prompt was known."""
        fails_after = self._options.fails_after
        if fails_after is not None and self._count >= fails_after:
            raise BadRequest("the engine was told to fail", status=500, kind="InternalServerError")
        self._count += 1
        cached = self._prefixes.read(tokenize(asked.prompt), asked.cache_salt)
        id_ = f"{self._started_ms:x}{self._count:06x}"
        return Live(asked, receive, script_for(self._model, asked)), (id_, self._clock.now_ms() // 1000, cached)

    async def _answer(
        self, head: shapes.Head | ItemHead, live: Live, send: Send, stream: Awaitable[None] | None
    ) -> None:
        began_s = time.monotonic()
        if stream is not None:
            await stream
        else:
            text = "".join([each async for each in self._paced(live)])
            await _json(send, head.whole(text, live.outcome.finish_reason, live.sent))
        self._metrics.latency_s.observe(time.monotonic() - began_s)
        self._metrics.finished(live.outcome.finish_reason)

    async def _stream_items(self, head: ItemHead, live: Live, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": STREAM_HEADERS})
        said: list[str] = []
        sequence = 0

        async def tell(events: Iterable[shapes.Json]) -> None:
            nonlocal sequence
            for event in numbered(events, sequence):
                sequence += 1
                await send({"type": "http.response.body", "body": event, "more_body": True})

        await tell(head.opening())
        async for token in self._paced(live):
            said.append(token)
            await tell([head.chunk(token, live.sent)])
        await tell(head.ending("".join(said), live.outcome.finish_reason, live.sent))
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _stream(self, head: shapes.Head, live: Live, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": STREAM_HEADERS})
        if live.asked.is_chat:
            await _event(send, head.opening())
        async for token in self._paced(live):
            await _event(send, head.chunk(token, live.sent))
        await _event(send, head.ending(live.outcome.finish_reason, live.sent))
        if live.asked.include_usage:
            await _event(send, head.usage_chunk(live.sent))
        await send({"type": "http.response.body", "body": b"data: [DONE]\n\n", "more_body": False})

    async def _paced(self, live: Live) -> AsyncIterator[str]:
        """Tokens at their rate, for as long as the caller is there. Raises Disconnected."""
        gone = asyncio.ensure_future(_wait_until_gone(live.receive))
        began_s = time.monotonic()
        self._metrics.waiting.inc()
        waiting = True
        try:
            async with self._slots:
                self._metrics.waiting.dec()
                waiting = False
                self._admit(live)
                try:
                    async for token in self._tokens(live, gone, began_s):
                        yield token
                finally:
                    self._release(live)
        finally:
            if waiting:
                self._metrics.waiting.dec()
            gone.cancel()

    async def _tokens(self, live: Live, gone: asyncio.Future[None], began_s: float) -> AsyncIterator[str]:
        rate = self._options.tokens_per_second
        start_s = last_s = time.monotonic()
        script, asked, outcome = live.script, live.asked, live.outcome
        for token in scripted(script, asked, outcome) if script else tokens(self._model, asked, outcome):
            due_s = start_s + (live.sent + 1) / rate if rate > 0 else 0.0
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            if gone.done():
                raise Disconnected
            live.sent += 1
            self._cached_tokens += 1
            now_s = time.monotonic()
            if live.sent == 1:
                self._metrics.first_token_s.observe(now_s - began_s)
            else:
                self._metrics.inter_token_s.observe(now_s - last_s)
            last_s = now_s
            self._metrics.generation_tokens.inc()
            yield token

    def _admit(self, live: Live) -> None:
        self._metrics.running.inc()
        self._metrics.prompt_tokens.inc(live.asked.prompt_tokens)
        self._cached_tokens += live.asked.prompt_tokens
        self._metrics.cache_usage.set(min(1.0, self._cached_tokens / self._options.cache_tokens))

    def _release(self, live: Live) -> None:
        self._metrics.running.dec()
        self._cached_tokens -= live.asked.prompt_tokens + live.sent
        self._metrics.cache_usage.set(min(1.0, self._cached_tokens / self._options.cache_tokens))


async def _wait_until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Disconnected
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > BODY_BYTES_MAX:
            raise BadRequest(f"the body is larger than {BODY_BYTES_MAX} bytes", status=413)
        if not message.get("more_body"):
            return b"".join(parts)


async def _event(send: Send, chunk: shapes.Json) -> None:
    text = b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"
    await send({"type": "http.response.body", "body": text, "more_body": True})


async def _json(send: Send, value: shapes.Json, status: int = 200) -> None:
    await _raw(send, json.dumps(value, separators=(",", ":")).encode(), status, "application/json")


async def _raw(send: Send, body: bytes, status: int = 200, kind: str = "text/plain") -> None:
    headers = [(b"content-type", kind.encode()), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
