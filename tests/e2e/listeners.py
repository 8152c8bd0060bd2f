"""Clients that count what they got: the truth about an answer is the bytes that arrived at its listener's socket.

Each content event of the stream is one token (the twin's engine sends them one by one), so tokens are counted without
believing anything that we say about them. A listener that leaves does it in one of three ways, of which each leaves an
exact truth behind:

- LEAVES shuts its sending side in the middle and reads on to the end of the connection. The router takes that for a
  leave, and what it had handed to the socket by then still arrives.
- LEAVES_EARLY does so right behind its request, before there can be a token.
- HANGS_UP closes the socket, every second one with a reset, as a killed process or a lost machine does. Bytes that are
  under way at that moment reach nobody, while a router can only know that the kernel took them; so the engine is
  stopped (SIGSTOP) for as long as it takes until nothing is under way, and only then is the socket closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

QUIET_S: Final = 0.3  # Far longer than a relayed token takes from the engine to us, even on a busy machine.
READ_BYTES: Final = 65_536
ANSWER_S: Final = 60.0
RESETS: Final = struct.pack("ii", 1, 0)  # SO_LINGER on, zero seconds: close sends a reset.


class Manner(Enum):
    """How a client listens."""

    STREAMS = "to the end of a stream"
    WAITS = "for a whole answer"
    LEAVES = "leaves in the middle, and takes what was sent"
    LEAVES_EARLY = "leaves before the first token"
    HANGS_UP = "closes in the middle"


@dataclass(frozen=True, slots=True)
class Plan:
    """What one client will do."""

    manner: Manner
    is_chat: bool
    max_tokens: int
    leaves_after: int = 0
    wants_usage: bool = False
    resets: bool = False


@dataclass(slots=True)
class Heard:
    """What one client got."""

    plan: Plan
    received: bytes = b""
    parts: list[dict[str, Any]] = field(default_factory=list)
    _read: int = 0

    def add(self, data: bytes) -> None:
        """More bytes came."""
        self.received += data
        *lines, rest = self.received[self._read :].split(b"\n")
        self._read = len(self.received) - len(rest)
        self.parts += [json.loads(each[6:]) for each in lines if each.startswith(b"data: {")]

    @property
    def request_id(self) -> str:
        """What the answer's head says; empty if none came."""
        return self.received.partition(b"x-request-id: ")[2].partition(b"\r\n")[0].decode()

    @property
    def is_complete(self) -> bool:
        """Whether the answer came to its end."""
        if self.plan.manner is Manner.WAITS:
            return self._whole() is not None
        return b"data: [DONE]\n\n" in self.received

    @property
    def tokens(self) -> int:
        """Completion tokens that arrived."""
        whole = self._whole()
        if whole is not None:
            return int(whole["usage"]["completion_tokens"])
        return sum(bool(_text(choice)) for each in self.parts for choice in each.get("choices", ()))

    @property
    def prompt_tokens(self) -> int | None:
        """What the answer says of the prompt, if it does."""
        whole = self._whole()
        said = [whole] if whole is not None else self.parts
        return next((int(each["usage"]["prompt_tokens"]) for each in said if each.get("usage")), None)

    def _whole(self) -> dict[str, Any] | None:
        head, _, body = self.received.partition(b"\r\n\r\n")
        if self.plan.manner is not Manner.WAITS or not head.startswith(b"HTTP/1.1 200"):
            return None
        try:
            answer: dict[str, Any] = json.loads(body)
        except ValueError:
            return None
        return answer


class Hush:
    """Stops the engine while anybody listens for silence."""

    def __init__(self, engine_pid: int) -> None:
        self._pid = engine_pid
        self._listeners = 0

    @contextlib.asynccontextmanager
    async def quiet(self) -> AsyncIterator[None]:
        """Inside, no token is made."""
        self._listeners += 1
        os.kill(self._pid, signal.SIGSTOP)
        try:
            yield
        finally:
            self._listeners -= 1
            if not self._listeners:
                os.kill(self._pid, signal.SIGCONT)


class Listener:
    """Asks an endpoint through the router at ``port``."""

    def __init__(self, *, port: int, key: str, model: str, hush: Hush) -> None:
        self._port = port
        self._key = key
        self._model = model
        self._hush = hush

    async def ask(self, plan: Plan) -> Heard:
        """Ask once, listen as planned. Raises OSError if there is nobody to ask."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        heard = Heard(plan)
        try:
            writer.write(self._request(plan))
            if plan.manner is Manner.LEAVES_EARLY:
                writer.write_eof()
            async with asyncio.timeout(ANSWER_S):
                await self._listen(reader, writer, heard)
        except ConnectionError:
            pass  # The router died; what had arrived was read before.
        finally:
            writer.transport.abort()
        return heard

    async def _listen(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, heard: Heard) -> None:
        plan = heard.plan
        has_left = plan.manner not in (Manner.LEAVES, Manner.HANGS_UP)
        while data := await reader.read(READ_BYTES):
            heard.add(data)
            if has_left or heard.tokens < plan.leaves_after:
                continue
            has_left = True
            if plan.manner is Manner.HANGS_UP:
                await self._hang_up(reader, writer, heard)
                return
            writer.write_eof()

    async def _hang_up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, heard: Heard) -> None:
        async with self._hush.quiet():
            with contextlib.suppress(TimeoutError):
                while data := await asyncio.wait_for(reader.read(READ_BYTES), QUIET_S):
                    heard.add(data)
            if heard.plan.resets:
                connection: socket.socket = writer.get_extra_info("socket")
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESETS)
            writer.transport.abort()
            await asyncio.sleep(0)  # The transport closes its socket in the loop's next round.

    def _request(self, plan: Plan) -> bytes:
        body: dict[str, Any] = {"model": self._model, "max_tokens": plan.max_tokens, "ignore_eos": True}
        said = "Tell me about water and stones."
        body |= {"messages": [{"role": "user", "content": said}]} if plan.is_chat else {"prompt": said}
        if plan.manner is not Manner.WAITS:
            body["stream"] = True
        if plan.wants_usage:
            body["stream_options"] = {"include_usage": True}
        path = "/v1/chat/completions" if plan.is_chat else "/v1/completions"
        content = json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nhost: router\r\nauthorization: Bearer {self._key}\r\n"
            f"content-type: application/json\r\nconnection: close\r\ncontent-length: {len(content)}\r\n\r\n"
        )
        return head.encode() + content


def _text(choice: dict[str, Any]) -> str:
    return str(choice.get("text") or (choice.get("delta") or {}).get("content") or "")
