"""Broker, router and metering as processes that can die at any moment, and a provider who knows what he lent out.

The provider plays the owners of endpoint and nodes. Like theirs, its journal outlives the broker: what it told is told
again after the broker lost its store. What it lent out, by its own watch, is the truth about GPU time.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import httpx
import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from libs.common.bus.port import Message, bucket_put
from libs.common.bus.provision import provision
from libs.common.bus.server import NatsServer
from libs.common.bus.streams import EVT, KEYS, USAGE, message_of
from libs.common.clock import SystemClock
from libs.common.errors import MillraceError
from libs.common.events.capacity import NodeJoined, NodeReleased
from libs.common.events.endpoint import EndpointStageChanged, Stage
from libs.common.events.envelope import Envelope
from libs.common.events.event import Event
from libs.common.ids import event_id
from libs.common.store.port import Entry
from libs.common.store.sql import SqlStore
from libs.common.units import SECOND_MS
from services.metering.core.windows import Windows
from services.metering.shell.audit import audit, told_windows
from services.metering.shell.ledger import every
from services.router.core.serving import Row
from services.router.shell.journal.log import LogUsageJournal
from tests.support.ports import free_port
from tests.support.web import NO_TLS
from tests.unit.router.heard import cache_warmed, requested
from tests.unit.router.scene import ENDPOINT, KEY, PROJECT, TENANT, key_entry

WAIT_S: Final = 150.0  # For anything: two busy cores, shared with others.
POLL_S: Final = 0.05
WINDOWS: Final = Windows(size_ms=2 * SECOND_MS, settle_ms=1 * SECOND_MS)
GPUS: Final = 8
DEAD_AT_ONCE: Final = signal.SIGKILL


async def until(holds: Callable[[], Awaitable[bool] | bool], otherwise: str) -> None:
    """Look again and again until it holds."""
    try:
        async with asyncio.timeout(WAIT_S):
            while True:
                found = holds()
                if found if isinstance(found, bool) else await found:
                    return
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise AssertionError(otherwise) from None


@dataclass
class Program:
    """One of our processes; what it keeps on disk outlives it."""

    module: str
    env: dict[str, str]
    log: Path
    ready_url: str
    process: asyncio.subprocess.Process | None = None
    deaths: int = 0

    async def start(self) -> None:
        """Start it; a port of one that was just killed may be busy for a moment."""
        env = {**os.environ, **{f"MILLRACE_{name}": value for name, value in self.env.items()}}
        with self.log.open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(sys.executable, "-m", self.module, env=env, stderr=log)

    async def ready(self) -> None:
        """Return once it works; start it again if it ended itself, as a supervisor would."""
        await until(self._is_ready, f"{self.module} is not ready: see {self.log}")

    async def kill(self) -> None:
        """End it at once."""
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(DEAD_AT_ONCE)
        await self.process.wait()
        self.deaths += 1

    async def _is_ready(self) -> bool:
        if self.process is None or self.process.returncode is not None:
            await self.start()
        with contextlib.suppress(httpx.HTTPError):
            async with httpx.AsyncClient(verify=NO_TLS) as web:
                return (await web.get(self.ready_url, timeout=5)).is_success
        return False


@dataclass
class Provider:
    """Owner of the endpoint and of nodes; `told` is its journal."""

    told: list[Message] = field(default_factory=list)
    lent: dict[str, int] = field(default_factory=dict)  # Claims now held, since when.
    gpu_ms: int = 0
    node_ms: int = 0
    nodes: int = 0
    unsent: list[Message] = field(default_factory=list)

    def open(self, engine_url: str) -> None:
        """An endpoint that serves."""
        self._tell(cache_warmed(engine_url))
        self._tell(requested())
        now_ms = SystemClock().now_ms()
        stage = EndpointStageChanged(
            tenant_id=TENANT, project_id=PROJECT, name="c", stage=Stage.READY, previous=Stage.REQUESTED, since_ms=now_ms
        )
        self._tell(Envelope(event_id("ready", "test", 0), stage, ENDPOINT, now_ms, generation=1, sequence=2))

    def lend(self) -> None:
        """A node joins."""
        self.nodes += 1
        claim, now_ms = f"claim-{self.nodes}", SystemClock().now_ms()
        self.lent[claim] = now_ms
        self._node(NodeJoined(claim=claim, node_type="gpu-l40s", gpu_count=GPUS, at_ms=now_ms), now_ms)

    def take_back(self) -> None:
        """The node that is held longest goes."""
        claim, now_ms = next(iter(self.lent)), SystemClock().now_ms()
        held_ms = now_ms - self.lent.pop(claim)
        self.gpu_ms += GPUS * held_ms
        self.node_ms += held_ms
        self._node(NodeReleased(claim=claim, at_ms=now_ms), now_ms)

    def again(self) -> None:
        """The broker lost everything: tell all of it again."""
        self.unsent = list(self.told)

    async def send(self, client: Client) -> None:
        """Give the broker what it has not taken."""
        stream = client.jetstream(timeout=2)
        while self.unsent:
            await put(stream.publish, self.unsent[0])
            del self.unsent[0]

    def _node(self, data: Event, now_ms: int) -> None:
        sequence = 100 + len(self.told)
        name = event_id(f"{len(self.told)}", data.kind, 0)
        self._tell(Envelope(name, data, ENDPOINT, now_ms, generation=1, sequence=sequence))

    def _tell(self, envelope: Envelope) -> None:
        message = message_of(envelope)
        self.told.append(message)
        self.unsent.append(message)


async def put(publish: Callable[..., Awaitable[object]], message: Message) -> None:
    """Store one message. Raises what nats-py raises if the broker is away."""
    headers = {**message.headers, "Nats-Msg-Id": message.id}
    await publish(message.subject, message.body, stream=message.stream or None, headers=headers)


class Scene:
    """All of it, with what the test hears on the bus."""

    def __init__(self, server: NatsServer, state: Path, *, router: str = "services.router") -> None:
        self.server = server
        self.state = state
        self.provider = Provider()
        self.batches: list[Message] = []  # Every usage batch that ever passed.
        self.wipes = 0
        self.port, self.usage_db = free_port(), state / "usage.db"
        self.database_url = f"sqlite:///{state}/metering.db"
        self.router = self._program(router, state / "router.log", self._router_env())
        self.metering = self._program("services.metering", state / "metering.log", self._metering_env())
        self._store: SqlStore | None = None

    async def start(self, engine_url: str) -> None:
        """Everything up, and the endpoint serves."""
        await provision(self.server.url)
        self.client = await nats.connect(
            self.server.url, max_reconnect_attempts=-1, reconnect_time_wait=1, error_cb=_ignore
        )
        await self.client.subscribe("mr.v1.usage.>", cb=self._heard)
        await self._key()
        self.provider.open(engine_url)
        self.provider.lend()
        await self.up()
        await until(self._serves, "the router does not serve")

    async def up(self) -> None:
        """Return once every process works and the broker has all that was told."""
        await until(self._is_told, "the broker does not take what is told")
        for program in (self.router, self.metering):
            await program.ready()

    async def stop(self) -> None:
        """End all."""
        for program in (self.router, self.metering):
            if program.process is not None:
                await program.kill()
        await self.client.close()
        if self._store is not None:
            self._store.close()

    def kill_broker(self) -> None:
        """It dies, and comes back with what it had."""
        self.server.kill()
        self.server.start()

    async def wipe_broker(self) -> None:
        """It dies and its disk is lost. An operator provisions it anew, and owners tell again what they told."""
        self.server.kill()
        shutil.rmtree(self.state / "nats" / "jetstream")
        self.server.start()
        self.wipes += 1
        await until(self._is_provisioned, "the broker can't be provisioned")
        await until(self._has_key, "the key can't be put")
        self.provider.again()

    async def repeat(self, batch: Message, number: int) -> None:
        """A batch comes once more, as an event of the same id in a message that no broker knows."""
        with contextlib.suppress(TimeoutError, nats.errors.Error):
            await put(self.client.jetstream(timeout=2).publish, replace(batch, id=f"again-{number}-{batch.id}"))

    def journal_late(self, rows: list[Row]) -> None:
        """What a router served a day ago and could not tell since; only while it is dead."""
        journal = LogUsageJournal(str(self.usage_db))
        for each in rows:
            journal.finish(each).wait(WAIT_S)
        journal.close()

    async def backlog(self) -> int:
        """How many requests the router waits to hear of."""
        async with httpx.AsyncClient(verify=NO_TLS) as web:
            text = (await web.get(self.router.ready_url.replace("readyz", "metrics"), timeout=10)).text
        return next(
            int(float(each.split()[1])) for each in text.splitlines() if each.startswith("router_usage_backlog ")
        )

    async def is_caught_up(self) -> bool:
        """Whether metering has handled all that is in the streams."""
        try:
            for stream, name in ((USAGE, "metering-usage"), (EVT, "metering-evt")):
                info = await self.client.jetstream(timeout=5).consumer_info(stream, name)
                if info.num_pending or info.num_ack_pending:
                    return False
        except (TimeoutError, nats.errors.Error):
            return False
        return True

    @property
    def store(self) -> SqlStore:
        """Metering's database, to read from."""
        self._store = self._store or SqlStore(self.database_url)
        return self._store

    def lines(self) -> list[Entry]:
        """The whole ledger."""
        return [each for page in every(self.store) for each in page]

    def sums(self) -> Counter[str]:
        """The ledger by meter, without what is parked."""
        found = Counter[str]()
        for each in self.lines():
            if not each.account.startswith("!"):
                found[each.meter] += each.quantity
        return found

    def revisions(self) -> dict[str, tuple[int, int]]:
        """What billing was told of each window."""
        return {each.key: (each.revision, each.quantity) for each in told_windows(self.store)}

    def differences(self) -> list[str]:
        """What the audit finds."""
        return [str(each) for each in audit(self.store, windows=WINDOWS)]

    async def _heard(self, message: Msg) -> None:
        headers = {name: text for name, text in (message.headers or {}).items() if not name.startswith("Nats-")}
        id_ = (message.headers or {}).get("Nats-Msg-Id", "")
        if not id_.startswith("again-"):
            self.batches.append(Message(id_, USAGE, message.subject, message.data, headers))

    async def _serves(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            async with httpx.AsyncClient(verify=NO_TLS, headers={"authorization": f"Bearer {KEY.plaintext}"}) as web:
                answer = await web.get(f"http://127.0.0.1:{self.port}/v1/models", timeout=5)
                return b'"chatty"' in answer.content
        return False

    async def _is_told(self) -> bool:
        with contextlib.suppress(TimeoutError, nats.errors.Error):
            await self.provider.send(self.client)
        return not self.provider.unsent

    async def _is_provisioned(self) -> bool:
        with contextlib.suppress(MillraceError):
            await provision(self.server.url)
            return True
        return False

    async def _has_key(self) -> bool:
        with contextlib.suppress(TimeoutError, nats.errors.Error):
            await self._key()
            return True
        return False

    async def _key(self) -> None:
        value = key_entry(KEY).model_dump_json().encode()
        await put(
            self.client.jetstream(timeout=2).publish, bucket_put(bucket=KEYS, key=KEY.key_id, value=value, id="k")
        )

    def _program(self, module: str, log: Path, env: dict[str, str]) -> Program:
        env = {"NATS_URL": self.server.url, "ADMIN_PORT": str(free_port()), **env}
        return Program(module, env, log, f"http://127.0.0.1:{env['ADMIN_PORT']}/readyz")

    def _router_env(self) -> dict[str, str]:
        return {
            "DATABASE_URL": f"sqlite:///{self.state}/router.db",
            "USAGE_DB": str(self.usage_db),
            "HTTP_PORT": str(self.port),
            "USAGE_RESEND_S": "1",
            "RESYNC_S": "0.5",
        }

    def _metering_env(self) -> dict[str, str]:
        return {
            "DATABASE_URL": self.database_url,
            "HTTP_PORT": str(free_port()),
            "WINDOW_S": str(WINDOWS.size_ms // SECOND_MS),
            "SETTLE_S": str(WINDOWS.settle_ms // SECOND_MS),
        }


async def _ignore(_trouble: Exception) -> None:
    """The broker is killed on purpose."""
