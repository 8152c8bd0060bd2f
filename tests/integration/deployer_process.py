"""The deployer as a process, and what it tells over a real bus."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

from libs.common.bus.server import NatsServer
from libs.common.bus.streams import EVT, message_of
from libs.common.events.envelope import Envelope, from_wire
from libs.common.events.event import Event, Owner
from tests.support.nats import connected, stored
from tests.support.ports import free_port
from tests.support.preloaded import Program
from tests.unit.runtime_deployer.a_runtime import ENDPOINT

PATIENCE_S: Final = 90.0
LOOK_S: Final = 0.25  # Each look leaves a reader with the broker for a while, and a stream may have only so many.


class DeployerProcess:
    """`python -m services.runtime_deployer`: its environment and its log. ``world`` says what it drives."""

    def __init__(self, world: Mapping[str, str], *, nats_url: str, directory: Path) -> None:
        self.port = free_port()
        self._log = directory / "deployer.log"
        self._env = {
            **os.environ,
            **{f"MILLRACE_{name}": value for name, value in world.items()},
            "MILLRACE_NATS_URL": nats_url,
            "MILLRACE_DATABASE_URL": f"sqlite:///{directory / 'deployer.db'}",
            "MILLRACE_ADMIN_PORT": str(self.port),
        }
        self.process = self.start()

    def start(self) -> Program:
        """Start it, again if it was killed."""
        self.process = Program("services.runtime_deployer", env=self._env, out=self._log, err=self._log)
        return self.process

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait(10)

    @property
    def log(self) -> str:
        """What it logged, in all its lives."""
        return self._log.read_text()


async def publish(server: NatsServer, *envelopes: Envelope) -> None:
    """Tell it."""
    async with connected(server.url) as client:
        context = client.jetstream()
        for each in envelopes:
            message = message_of(each)
            headers = {**message.headers, "Nats-Msg-Id": message.id}
            await context.publish(message.subject, message.body, stream=message.stream, headers=headers)


async def told(server: NatsServer) -> list[Event]:
    """Everything that it told of the endpoint."""
    found = [from_wire(each.headers, each.body) for each in await stored(server.url, EVT)]
    return [each.data for each in found if each.owner is Owner.RUNTIME_DEPLOYER and each.subject == ENDPOINT]


async def until(server: NatsServer, holds: Callable[[list[Event]], bool], deployer: DeployerProcess) -> list[Event]:
    """What it told once that holds of it."""
    deadline_s = time.monotonic() + PATIENCE_S
    while not holds(events := await told(server)):
        assert time.monotonic() < deadline_s, f"told only {[each.kind for each in events]}\n{deployer.log}"
        await asyncio.sleep(LOOK_S)
    return events


async def until_told(server: NatsServer, kind: str, deployer: DeployerProcess) -> list[Event]:
    """The events of that kind, once there is one."""
    events = await until(server, lambda each: any(event.kind == kind for event in each), deployer)
    return [each for each in events if each.kind == kind]
