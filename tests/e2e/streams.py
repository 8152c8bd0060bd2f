"""Many streams at once, read as they come: who was refused, who was cut, and when each began and ended."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Coroutine, Iterable
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import urlsplit

from tests.e2e.local_profile import Profile

PATIENCE_S: Final = 280.0  # Under what the router holds a request for.
DONE: Final = b"data: [DONE]"


@dataclass(slots=True)
class Stream:
    """What one client saw of its answer."""

    status: int = 0
    tokens: int = 0
    is_whole: bool = False
    error: str = ""
    request_id: str = ""
    began_s: float = field(default_factory=time.monotonic)
    first_s: float | None = None
    ended_s: float | None = None


def failed_early(seen: Iterable[Stream], *, deadline_s: float) -> list[Stream]:
    """Those that were failed for our sake before their deadline, and had nothing of an answer."""
    return [
        each
        for each in seen
        if (each.status >= 500 or not each.status)
        and each.ended_s is not None
        and each.ended_s - each.began_s < deadline_s
    ]


class Streams:
    """Clients in a thread of their own, so that a test can go on doing something else."""

    def __init__(self, profile: Profile, model: str) -> None:
        self._address = urlsplit(profile.credentials.router_url)
        self._key = profile.credentials.key
        self._model = model
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._asked: list[Future[None]] = []
        self.seen: list[Stream] = []

    def __enter__(self) -> Streams:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End what still runs, and the loop."""
        for each in self._asked:
            each.cancel()
        wait(self._asked, timeout=10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def open(self, count: int, *, tokens: int, model: str = "") -> None:
        """Begin so many answers of so many tokens each."""
        for _ in range(count):
            stream = Stream()
            self.seen.append(stream)
            self._run(self._one(stream, tokens, model or self._model))

    @property
    def live(self) -> int:
        """How many have begun to be answered and did not end yet."""
        return sum(each.first_s is not None and each.ended_s is None for each in self.seen)

    @property
    def open_ones(self) -> int:
        """How many did not end yet, those that wait included."""
        return sum(each.ended_s is None for each in self.seen)

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        self._asked.append(asyncio.run_coroutine_threadsafe(work, self._loop))

    async def _one(self, stream: Stream, tokens: int, model: str) -> None:
        try:
            async with asyncio.timeout(PATIENCE_S):
                await self._ask(stream, tokens, model)
        except (OSError, TimeoutError, asyncio.IncompleteReadError) as wrong:
            stream.error = stream.error or f"{type(wrong).__name__}: {wrong}"
        stream.ended_s = time.monotonic()

    async def _ask(self, stream: Stream, tokens: int, model: str) -> None:
        reader, writer = await asyncio.open_connection(self._address.hostname, self._address.port)
        try:
            writer.write(self._request(tokens, model))
            stream.status = int((await reader.readline()).split()[1])
            while (line := (await reader.readline()).strip()) != b"":
                name, _, value = line.partition(b": ")
                if name.lower() == b"x-request-id":
                    stream.request_id = value.decode()
            while line := await reader.readline():
                self._note(stream, line)
                if stream.is_whole or stream.error:
                    return
        finally:
            writer.close()

    @staticmethod
    def _note(stream: Stream, line: bytes) -> None:
        if line.startswith(DONE):
            stream.is_whole = True
        elif b'"error"' in line:
            stream.error = line.decode().strip()
        elif line.startswith(b"data:") and b'"content":' in line:
            stream.tokens += 1
            stream.first_s = stream.first_s or time.monotonic()

    def _request(self, tokens: int, model: str) -> bytes:
        asked = {
            "model": model,
            "messages": [{"role": "user", "content": "What is a millrace?"}],
            "stream": True,
            "max_tokens": tokens,
            "min_tokens": tokens,
            "ignore_eos": True,
        }
        body = json.dumps(asked).encode()
        head = (
            f"POST /v1/chat/completions HTTP/1.1\r\nhost: {self._address.netloc}\r\n"
            f"authorization: Bearer {self._key}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        return head.encode() + body
