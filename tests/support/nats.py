"""A real NATS server of a test's own, and what lies in its streams.

There is no skipping: a machine without nats-server fails here with the line that says how to get it.
"""

from __future__ import annotations

import contextlib
import socket
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client
from nats.errors import TimeoutError as NatsTimeout
from nats.js.api import AckPolicy, ConsumerConfig

from libs.common.bus.port import Message
from libs.common.bus.server import NatsServer, find_nats_server
from libs.common.errors import Unavailable

UNTIL_WE_END = 'cat > /dev/null; test -f "$0" && kill -9 $(cat "$0")'
STARTS = 5  # A port that was free may be taken by another test before the server has it.


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def a_started_server(state_dir: Path) -> NatsServer:
    """A running server on free ports."""
    find_nats_server()
    for attempt in range(STARTS):
        server = NatsServer(state_dir, free_port(), free_port())
        try:
            server.start()
        except Unavailable:
            if attempt == STARTS - 1:
                raise
        else:
            return server
    raise AssertionError("unreachable")


@pytest.fixture
def nats_server(tmp_path: Path) -> Iterator[NatsServer]:
    """A running server with nothing in it. It ends with us, even if we are killed: a shell waits for our pipe's end."""
    pid_file = tmp_path / "nats" / "nats.pid"
    watch = subprocess.Popen(["sh", "-c", UNTIL_WE_END, str(pid_file)], stdin=subprocess.PIPE)
    server = a_started_server(tmp_path / "nats")
    yield server
    server.kill()
    pid_file.unlink(missing_ok=True)
    watch.communicate()


@contextlib.asynccontextmanager
async def connected(url: str) -> AsyncIterator[Client]:
    """A plain client, as an operator's."""
    client = await nats.connect(url, error_cb=_ignore, reconnect_time_wait=1, max_reconnect_attempts=-1)
    try:
        yield client
    finally:
        await client.close()


async def stored(url: str, stream: str) -> list[Message]:
    """What lies in a stream, in its order."""
    found: list[Message] = []
    async with connected(url) as client:
        context = client.jetstream()
        await context.add_consumer(stream, ConsumerConfig(name="look", ack_policy=AckPolicy.NONE, mem_storage=True))
        pull = await context.pull_subscribe_bind("look", stream)
        with contextlib.suppress(NatsTimeout, TimeoutError):
            while True:
                for each in await pull.fetch(100, timeout=0.3):
                    headers = each.headers or {}
                    ours = {name: value for name, value in headers.items() if not name.startswith("Nats-")}
                    found.append(Message(headers.get("Nats-Msg-Id", ""), stream, each.subject, each.data, ours))
        await context.delete_consumer(stream, "look")
    return found


async def _ignore(_error: Exception) -> None:
    """A server that is killed on purpose is no news."""
