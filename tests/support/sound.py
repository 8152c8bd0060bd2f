"""A model server of sound over real sockets: it speaks in tones, one for each letter, and understands what it spoke.

``python -m tests.support.sound --model NAME --host HOST --port PORT`` is one as a process, for a tier's own command.
It reads forms with the standard library's parser of mail, so that what the router writes is judged by somebody else.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import io
import json
import math
import wave
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import Message
from itertools import pairwise

RATE_HZ = 8_000
TONE_SAMPLES = 400  # As many waves fit into a tone as its letter's code says: 126 at most, far below what 400 can show.


def spoken(text: str) -> bytes:
    """A WAV file."""
    waves = [ord(each) for each in text]
    steps = [(2 * math.pi * count * (n + 0.5) / TONE_SAMPLES) for count in waves for n in range(TONE_SAMPLES)]
    out = io.BytesIO()
    with wave.open(out, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(1)
        file.setframerate(RATE_HZ)
        file.writeframes(bytes(128 + round(100 * math.sin(each)) for each in steps))
    return out.getvalue()


def understood(sound: bytes) -> str:
    """What was spoken: twice as many crossings of zero as waves, but for the one at the end."""
    with wave.open(io.BytesIO(sound)) as file:
        samples = file.readframes(file.getnframes())
    tones = [samples[at : at + TONE_SAMPLES] for at in range(0, len(samples), TONE_SAMPLES)]
    return "".join(chr((sum((one < 128) != (two < 128) for one, two in pairwise(tone)) + 1) // 2) for tone in tones)


@dataclass
class SoundEngine:
    """What it saw, and how it answers. Settable while it runs."""

    counts_tokens: bool = True
    empty: bool = False
    gate: asyncio.Event | None = None  # Of what is spoken no more than the beginning is said before it is set.
    breaks_off: bool = False  # In the middle of what is spoken.
    model: str = "tones"
    port: int = 0
    heads: list[bytes] = field(default_factory=list)
    forms: list[list[tuple[str, str | None, bytes]]] = field(default_factory=list)  # Name, file name, content.
    bodies: list[dict[str, object]] = field(default_factory=list)

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://127.0.0.1:{self.port}"

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Requests of one connection."""
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                lines = head.split(b"\r\n")
                said = {name.lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])}
                body = await reader.readexactly(int(said.get(b"content-length", b"0")))
                self.heads.append(head)
                media, answer = self._answer(lines[0].split(b" ")[1], said.get(b"content-type", b""), body)
                answer = b"" if self.empty else answer
                said_first = answer[: len(answer) // 2] if media == b"audio/wav" else answer
                writer.write(
                    b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\ncontent-length: %d\r\n\r\n%s"
                    % (media, len(answer), said_first)
                )
                await writer.drain()
                if self.gate is not None:
                    await self.gate.wait()
                if self.breaks_off:
                    break
                writer.write(answer[len(said_first) :])
                await writer.drain()
        writer.close()

    def _answer(self, path: bytes, content_type: bytes, body: bytes) -> tuple[bytes, bytes]:
        if path == b"/v1/audio/speech":
            return self._spoken(body)
        if path in (b"/v1/audio/transcriptions", b"/v1/audio/translations"):
            return self._written(content_type, body)
        listed = {"object": "list", "data": [{"id": self.model, "object": "model"}]}  # Also who asks for its health.
        return b"application/json", json.dumps(listed).encode()

    def _spoken(self, body: bytes) -> tuple[bytes, bytes]:
        asked = json.loads(body)
        self.bodies.append(asked)
        return b"audio/wav", spoken(asked["input"])

    def _written(self, content_type: bytes, body: bytes) -> tuple[bytes, bytes]:
        form = message_from_bytes(b"content-type: %s\r\n\r\n%s" % (content_type, body), policy=policy.HTTP)
        parts = [_read(each) for each in form.iter_parts()]
        self.forms.append(parts)
        fields = {name: content for name, _, content in parts}
        text = understood(fields["file"])
        if fields.get("response_format") == b"text":
            return b"text/plain; charset=utf-8", text.encode()
        usage = {"type": "tokens", "input_tokens": len(text), "output_tokens": 2, "total_tokens": len(text) + 2}
        counted = usage if self.counts_tokens else {"type": "duration", "seconds": 1}
        return b"application/json", json.dumps({"text": text, "usage": counted}).encode()


def _read(part: Message) -> tuple[str, str | None, bytes]:
    content = part.get_payload(decode=True)
    assert isinstance(content, bytes)
    return str(part.get_param("name", header="content-disposition")), part.get_filename(), content


@contextlib.asynccontextmanager
async def sounding(engine: SoundEngine) -> AsyncIterator[SoundEngine]:
    """The engine, listening on a free port."""
    server = await asyncio.start_server(engine.handle, "127.0.0.1", 0)
    engine.port = server.sockets[0].getsockname()[1]
    try:
        yield engine
    finally:
        server.close()


async def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", required=True, type=int)
    asked = parser.parse_args()
    server = await asyncio.start_server(SoundEngine(model=asked.model).handle, asked.host, asked.port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
