"""The data plane's server: listens, knows its connections, answers what needs no engine, and goes away politely."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
from typing import Final
from urllib.parse import unquote

from libs.common.errors import Rejected, Unavailable
from libs.common.events.tables import KeyEntry
from libs.common.telemetry.logging import fields
from services.router.core import models, refusals
from services.router.core.http_rules import Head
from services.router.shell import metrics
from services.router.shell.edge.connection import ClientConnection
from services.router.shell.edge.door import Door
from services.router.shell.request.gateway import Gateway

log = logging.getLogger(__name__)

CONNECTIONS_MAX: Final = 10_000  # What one process's memory and file descriptors are sized for.
SWEEP_S: Final = 0.25  # How late a deadline may be noticed; one pass over 10,000 connections takes 3 ms.
EMPTY_S: Final = 1.0  # Without clients, how long it may wait for one: idle engines are let go this late, too.
CUT_S: Final = 5.0  # After the drain deadline: time to write the bills of what was cut.
GENERATING: Final = ("POST", "OPTIONS")
LOOKING: Final = ("GET", "HEAD", "OPTIONS")
HEALTHZ: Final = "/healthz"
SERVING_PAGE: Final = "/serving"  # On the admin port, where neither TLS nor a PROXY header is in a probe's way.
HEALTHY: Final = b'{"status":"ok"}'
MODELS: Final = "/v1/models"


class Edge:
    """Serves clients on one address."""

    def __init__(
        self,
        gateway: Gateway,
        *,
        host: str,
        port: int,
        drain_s: float = 30.0,
        is_shared: bool = False,
        tls: ssl.SSLContext | None = None,
        is_behind_proxy: bool = False,
    ) -> None:
        self.gateway = gateway
        self.port = port
        self._host = host
        self._drain_s = drain_s
        self._tls = tls
        self.is_behind_proxy = is_behind_proxy  # Each connection begins with a PROXY header.
        self._is_shared = is_shared  # With the other workers: the kernel spreads connections over us.
        self._connections: set[ClientConnection] = set()
        self._has_clients = asyncio.Event()
        self._keys: object = gateway.keyring.edition  # As of the last look at what runs.
        self._door: Door | None = None

    def bind(self) -> None:
        """Take the address, without listening yet. Raises Rejected if another has it."""
        is_v6 = ":" in self._host
        bound = socket.socket(socket.AF_INET6 if is_v6 else socket.AF_INET)
        if is_v6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # `::` is every address, of both kinds.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self._is_shared:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        try:
            bound.bind((self._host, self.port))
        except OSError as taken:
            bound.close()
            message = f"can not listen on {self._host}:{self.port} ({taken.strerror}): set MILLRACE_HTTP_PORT"
            raise Rejected(message, code="address_taken") from taken
        self.port = bound.getsockname()[1]
        self._door = Door(bound, lambda: ClientConnection(self), tls=self._tls)

    async def listen(self) -> None:
        """Let clients in."""
        assert self._door is not None, "bind first"
        await self._door.open()
        self.gateway.arrivals.let_in = self._door.let_in
        log.info("serving", extra=fields(port=self.port))

    async def run(self) -> None:
        """Let clients in, and look after deadlines until cancelled."""
        await self.listen()
        loop = asyncio.get_running_loop()
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EMPTY_S):
                    await self._has_clients.wait()
            await asyncio.sleep(SWEEP_S)
            self._look_at_keys()
            self._sweep(loop.time())
            self.gateway.waiting.sweep()
            self.gateway.pool.sweep()

    def _sweep(self, now_s: float) -> None:
        """A function of its own: a name in `run` would keep the last of them, long gone."""
        for connection in list(self._connections):
            connection.sweep(now_s)

    def page(self) -> bytes:
        """For whoever sends clients here: they are let in, whatever is with the bus. Raises Unavailable if not."""
        if self._door is None or not self._door.is_open:
            raise Unavailable("no clients are let in")
        return HEALTHY

    def _look_at_keys(self) -> None:
        """What runs for a key that was taken back ends (reliability.md I23)."""
        edition = self.gateway.keyring.edition
        if edition is self._keys:
            return
        self._keys = edition
        for connection in list(self._connections):
            connection.keys_changed()

    async def drain(self) -> None:
        """Take nothing new, let what runs finish until the deadline, cut the rest; every bill is written."""
        self.gateway.is_stopping = True
        if self._door is not None:
            self._door.close()
        self.gateway.waiting.close()
        for connection in list(self._connections):
            connection.close_if_idle()
        if not await self._all_gone(self._drain_s):
            log.warning("cutting what still runs", extra=fields(count=self.gateway.table.live_total()))
            self.gateway.table.cut_all()
            await self._all_gone(CUT_S)
        for connection in list(self._connections):
            connection.abort()
        self.gateway.pool.close()

    async def _all_gone(self, within_s: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                while self.gateway.table.live_total() or not self.gateway.arrivals.is_empty:
                    await asyncio.sleep(0.02)
        return not self.gateway.table.live_total()

    # What connections ask.

    def add(self, connection: ClientConnection) -> bool:
        """Know the connection; False if there are too many."""
        self._connections.add(connection)
        self._has_clients.set()
        metrics.CONNECTIONS.set(len(self._connections))
        return len(self._connections) <= CONNECTIONS_MAX and not self.gateway.is_stopping

    def remove(self, connection: ClientConnection) -> None:
        """It closed."""
        self._connections.discard(connection)
        if not self._connections:
            self._has_clients.clear()
        metrics.CONNECTIONS.set(len(self._connections))

    def judge(self, head: Head, peer: str = "") -> KeyEntry | None:
        """Whether something is served there, and whose key it is; ``peer`` is who connected. Raises HttpRefusal."""
        generates = head.api is not None
        if not generates and head.path not in (HEALTHZ, MODELS) and not head.path.startswith(f"{MODELS}/"):
            raise refusals.unknown_url(head.method, head.path)
        if head.method not in (GENERATING if generates else LOOKING):
            raise refusals.wrong_method(head.method, head.path, allowed=self.methods(head))
        return (
            None
            if head.path == HEALTHZ or head.method == "OPTIONS"
            else self.gateway.admit(head.bearer, peer, head.forwarded_for, looks=not generates)
        )

    def methods(self, head: Head) -> str:
        """What OPTIONS says of its path."""
        return ", ".join(LOOKING if head.api is None else GENERATING)

    def lookup(self, head: Head, key: KeyEntry | None) -> bytes:
        """The answer to what needs no engine. Raises HttpRefusal."""
        if key is None:
            return HEALTHY
        table = self.gateway.table
        if head.path == MODELS:
            found = table.of_project(tenant_id=key.tenant_id, project_id=key.project_id)
            return models.models_body(each for each in found if not key.models or each.name in key.models)
        name = unquote(head.path.removeprefix(f"{MODELS}/"))  # OpenAI's package for Node writes %2F before an adapter.
        endpoint = name.partition("/")[0]
        if key.models and endpoint not in key.models:
            raise refusals.model_not_found(name)
        return models.model_body(table.find(tenant_id=key.tenant_id, project_id=key.project_id, name=endpoint), name)
