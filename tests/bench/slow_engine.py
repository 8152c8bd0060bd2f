"""``python -m tests.bench.slow_engine <places> <service_s>``: an engine of fixed capacity; says its port.

It serves so many requests at once, each for the same time; more wait in its own line, as in vLLM.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import deque
from typing import Final

BODY: Final = json.dumps(
    {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "tok " * 5}}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 5, "total_tokens": 10},
    }
).encode()
ANSWER: Final = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY)


class Places:
    """What the engine can do at once."""

    def __init__(self, places: int, service_s: float) -> None:
        self._free = places
        self._service_s = service_s
        self._line: deque[asyncio.Transport] = deque()

    def take(self, client: asyncio.Transport) -> None:
        """Serve now, or when it is its turn."""
        if not self._free:
            self._line.append(client)
            return
        self._free -= 1
        asyncio.get_running_loop().call_later(self._service_s, self._done, client)

    def _done(self, client: asyncio.Transport) -> None:
        client.write(ANSWER)
        self._free += 1
        if self._line:
            self.take(self._line.popleft())


class Connection(asyncio.Protocol):
    """One connection of a router: a request is whole when its length of body came."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._seen = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._seen += data
        head, found, body = self._seen.partition(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0] or 0) if found else 0
        if found and len(body) >= length:
            self._seen = body[length:]
            self._places.take(self._transport)


async def main(places: int, service_s: float) -> None:
    at = Places(places, service_s)
    server = await asyncio.get_running_loop().create_server(lambda: Connection(at), "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), float(sys.argv[2])))
