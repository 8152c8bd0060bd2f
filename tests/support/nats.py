"""A real NATS server of a test's own, and what lies in its streams.

There is no skipping: a machine without nats-server fails here with the line that says how to get it.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import nats
import pytest
from nats.aio.client import Client

from libs.common.bus.port import Message
from libs.common.bus.server import NatsServer, find_nats_server
from libs.common.bus.tail import tail
from tests.support.ports import free_port

UNTIL_WE_END = 'cat > /dev/null; test -f "$0" && kill -9 $(cat "$0")'


def a_started_server(state_dir: Path) -> NatsServer:
    """A running server on free ports."""
    find_nats_server()
    server = NatsServer(state_dir, free_port(), free_port())
    server.start()
    return server


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
    return [each.message async for each in tail(url, stream=stream)]


async def _ignore(_error: Exception) -> None:
    """A server that is killed on purpose is no news."""
