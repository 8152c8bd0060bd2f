"""The world on HTTP: one event loop, which is also the world's one thread."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import threading
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from typing import Any, Final
from urllib.parse import parse_qsl

import httpx

from libs.common import web
from libs.common.tasks import end
from libs.common.units import SECOND_MS
from libs.twin.answers import ApiError, Response
from libs.twin.hub import PREFIX as HUB
from libs.twin.hub import Hub, Part
from libs.twin.kube import PodTarget
from libs.twin.watching import Watch
from libs.twin.world import World

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

ADVANCE_S: Final = 0.025  # How late the world may notice that something is due.
REST_S: Final = 1.0  # How late a watch of a world at rest may end, or say that it lives.
BOOKMARK_S: Final = 5.0
WATCH_S_MAX: Final = 3_600.0  # Real servers end watches too, after half an hour or more.
PROXY_TIMEOUT: Final = httpx.Timeout(30.0, read=300.0)  # A long generation may pause before its first token.
HOP_HEADERS: Final = frozenset(
    {"connection", "keep-alive", "transfer-encoding", "content-length", "host", "authorization"}
)
BODY_BYTES_MAX: Final = 16 * 1024 * 1024


class TwinApp:
    """Serves a world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._hub = Hub()
        self._moved = asyncio.Condition()
        self._stirred = asyncio.Event()  # Something is due sooner than it was.
        self._http = httpx.AsyncClient(timeout=PROXY_TIMEOUT, limits=httpx.Limits(max_connections=None))

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        if scope["type"] != "http":
            return
        method, path = scope["method"], scope["path"]
        query = dict(parse_qsl(scope["query_string"].decode(), keep_blank_values=True))
        headers = {name.decode().lower(): value.decode("latin-1") for name, value in scope["headers"]}
        body = await _body(receive)
        if body is None:
            return
        if path.startswith(HUB):
            await self._lend(self._hub.open(path, headers, is_spoiled=self._world.faults.digest_mismatch), send)
            return
        self._world.advance()
        try:
            opened = self._world.open(method, path, query, headers)
        except ApiError as error:
            await _send(send, error.response())
            return
        if isinstance(opened, Watch):
            await self._stream(opened, query, receive, send)
        elif isinstance(opened, PodTarget):
            await self._proxy(opened, method, headers, body, send)
        else:
            before_ms = self._world.due_ms
            answered = self._world.reply(method, path, query, headers, body)
            if self._world.due_ms != before_ms:
                self._stirred.set()
            await _send(send, answered)
            await self.moved()

    async def run(self) -> None:
        """Keep the world moving until cancelled."""
        if threading.current_thread() is threading.main_thread():  # Where signals are heard: an engine has died.
            asyncio.get_running_loop().add_signal_handler(signal.SIGCHLD, self._stirred.set)
        while True:
            self._stirred.clear()
            due_ms = self._world.next_due_ms()
            await self.moved()
            await asyncio.sleep(ADVANCE_S)
            due_s = REST_S if due_ms is None else (due_ms - self._world.clock.now_ms()) / SECOND_MS
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(due_s, REST_S)):
                    await self._stirred.wait()

    async def moved(self) -> None:
        """Wake the watches."""
        async with self._moved:
            self._moved.notify_all()

    async def close(self) -> None:
        """Let go of every connection, and end everything that runs."""
        await self._http.aclose()
        self._world.close()

    async def _stream(self, watch: Watch, query: Mapping[str, str], receive: Receive, send: Send) -> None:
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        gone = asyncio.ensure_future(_wait_until_gone(receive))
        loop = asyncio.get_running_loop()
        asked_s = query.get("timeoutSeconds", "")
        end_s = loop.time() + (float(asked_s) if asked_s.isdigit() else WATCH_S_MAX)
        bookmark_s = loop.time() + BOOKMARK_S
        try:
            while not gone.done() and not watch.is_over and loop.time() < end_s:
                lines = watch.lines()
                if loop.time() >= bookmark_s:
                    lines += watch.bookmark()
                    bookmark_s = loop.time() + BOOKMARK_S
                if lines:
                    await send({"type": "http.response.body", "body": b"".join(lines), "more_body": True})
                if not watch.is_over:
                    async with self._moved:
                        await self._moved.wait()
        finally:
            gone.cancel()
        await send({"type": "http.response.body", "body": b"".join(watch.bookmark())})

    async def _proxy(self, target: PodTarget, method: str, headers: Mapping[str, str], body: bytes, send: Send) -> None:
        url = f"http://{target.address}:{target.port}{target.path}"
        kept = {name: value for name, value in headers.items() if name not in HOP_HEADERS}
        try:
            async with self._http.stream(method, url, headers=kept, content=body) as answer:
                await _relay(answer, send)
        except httpx.HTTPError as wrong:
            error = ApiError(503, "ServiceUnavailable", f"error trying to reach service: {wrong}")
            await _send(send, error.response())

    async def _lend(self, found: Response | Part, send: Send) -> None:
        if isinstance(found, Response):
            await _send(send, found)
            return
        names = [(name.encode(), value.encode()) for name, value in found.head.headers.items()]
        await send({"type": "http.response.start", "status": found.head.status, "headers": names})
        for block in found.blocks():
            await self._hub.wait(len(block))
            await send({"type": "http.response.body", "body": block, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


async def serve(world: World, *, host: str, port: int) -> None:
    """Serve until cancelled. Raises OSError if the port is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
    app = TwinApp(world)
    moving = asyncio.create_task(app.run())
    serving = asyncio.create_task(web.serve(app, host=host, port=port))
    try:
        done, _ = await asyncio.wait({moving, serving}, return_when=asyncio.FIRST_COMPLETED)
        for each in done:
            each.result()
    finally:
        await end(moving, serving)
        await app.close()


async def _relay(answer: httpx.Response, send: Send) -> None:
    headers = [
        (name.encode(), value.encode("latin-1")) for name, value in answer.headers.items() if name not in HOP_HEADERS
    ]
    await send({"type": "http.response.start", "status": answer.status_code, "headers": headers})
    async for part in answer.aiter_raw():
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _send(send: Send, response: Response) -> None:
    headers = [(name.encode(), value.encode()) for name, value in response.headers.items()]
    headers.append((b"content-length", str(len(response.body)).encode()))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    await send({"type": "http.response.body", "body": response.body})


async def _body(receive: Receive) -> bytes | None:
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        parts.append(message.get("body", b""))
        if not message.get("more_body") or sum(map(len, parts)) > BODY_BYTES_MAX:
            return b"".join(parts)


async def _wait_until_gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
