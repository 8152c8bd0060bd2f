"""How long a revoked key still works: from the API's answer to every router's first refusal, all real processes."""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import httpx

from libs.common.bus.provision import provision
from libs.common.ids import SystemEntropy
from libs.common.keys import mint
from tests.bench.report import Section
from tests.support.nats import a_started_server
from tests.support.ports import free_port

ROUTERS: Final = 2
REVOCATIONS: Final = 200
WAIT_S: Final = 30.0


def measure() -> Section:
    """Milliseconds, for each router and for the slowest of them."""
    with ExitStack() as opened:
        state = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="mr-bench-")))
        server = a_started_server(state / "nats")
        opened.callback(server.kill)
        asyncio.run(provision(server.url))
        first = mint(SystemEntropy()).plaintext
        api = opened.enter_context(an_api(state, server.url, first))
        routers = [opened.enter_context(a_router(state, server.url, number)) for number in range(ROUTERS)]
        for router in routers:
            opened.enter_context(load(router, first))
        with ThreadPoolExecutor(ROUTERS) as pool:
            took_ms = [revoke_one(api, routers, pool, first) for _ in range(REVOCATIONS)]
    columns = {f"router {number}": [each[number] for each in took_ms] for number in range(ROUTERS)}
    columns["every router"] = [max(each) for each in took_ms]
    return Section(
        title="Revocation",
        question="How long does a revoked key still work? From the 200 of the revocation to the first 401. p99 < 1 s.",
        columns=("", "p50 ms", "p99 ms", "max ms"),
        rows=tuple((name, *figures(each)) for name, each in columns.items()),
        notes=(
            f"{REVOCATIONS} revocations, one by one, by HTTP; nats-server, endpoint-api on SQLite and {ROUTERS}"
            " routers, each a process; on each router another client asks without a pause.",
        ),
    )


def figures(took_ms: list[float]) -> tuple[str, str, str]:
    """Median, 99th percentile and the worst."""
    p99 = statistics.quantiles(took_ms, n=100, method="inclusive")[98]
    return f"{statistics.median(took_ms):.1f}", f"{p99:.1f}", f"{max(took_ms):.1f}"


def revoke_one(api: httpx.Client, routers: list[str], pool: ThreadPoolExecutor, first: str) -> list[float]:
    """Make a key, see every router take it, revoke it; how long each router still took it."""
    auth = {"authorization": f"Bearer {first}"}
    made = api.post("/v1/keys", json={"name": "bench", "scopes": ["inference"]}, headers=auth).raise_for_status().json()
    list(pool.map(lambda router: when(router, made["key"], 200), routers))
    ready = threading.Barrier(len(routers) + 1)

    def refused_s(router: str) -> float:
        ready.wait()
        return when(router, made["key"], 401)

    waiting = [pool.submit(refused_s, router) for router in routers]
    ready.wait()
    api.delete(f"/v1/keys/{made['id']}", headers=auth).raise_for_status()
    answered_s = time.perf_counter()
    return [max(0.0, each.result() - answered_s) * 1000 for each in waiting]


def when(router: str, key: str, status: int) -> float:
    """The time of the first answer with this status."""
    deadline_s = time.monotonic() + WAIT_S
    with httpx.Client(base_url=router, headers={"authorization": f"Bearer {key}"}) as client:
        while client.get("/v1/models").status_code != status:
            assert time.monotonic() < deadline_s, f"no {status} within {WAIT_S} s"
    return time.perf_counter()


@contextmanager
def load(router: str, key: str) -> Iterator[None]:
    """Somebody who asks the router all the time."""
    over = threading.Event()

    def ask() -> None:
        with httpx.Client(base_url=router, headers={"authorization": f"Bearer {key}"}) as client:
            while not over.is_set():
                client.get("/v1/models")

    asking = threading.Thread(target=ask)
    asking.start()
    yield
    over.set()
    asking.join()


@contextmanager
def an_api(state: Path, nats_url: str, key: str) -> Iterator[httpx.Client]:
    """endpoint-api with ``key`` recorded."""
    port, bootstrap = free_port(), state / "bootstrap.json"
    scopes = ["inference", "manage", "read"]
    bootstrap.write_text(json.dumps({"tenant_id": "acme", "project_id": "main", "key": key, "scopes": scopes}))
    bootstrap.chmod(0o600)
    more = {"BOOTSTRAP_FILE": str(bootstrap), "HTTP_PORT": str(port)}
    with a_process("endpoint_api", state, nats_url, more), httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        wait_for(client)
        yield client


@contextmanager
def a_router(state: Path, nats_url: str, number: int) -> Iterator[str]:
    """A router with a journal, a database and tables of its own."""
    own, port = state / f"router-{number}", free_port()
    own.mkdir()
    more = {"USAGE_DB": f"{own}/usage.db", "INSTANCE": f"router-{number}", "HTTP_PORT": str(port)}
    with a_process("router", own, nats_url, more), httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
        wait_for(client)
        yield f"http://127.0.0.1:{port}"


@contextmanager
def a_process(service: str, state: Path, nats_url: str, more: dict[str, str]) -> Iterator[None]:
    """``python -m services.<service>`` until the block ends."""
    own = {"NATS_URL": nats_url, "DATABASE_URL": f"sqlite:///{state}/{service}.db", "ADMIN_PORT": str(free_port())}
    env = {**os.environ, **{f"MILLRACE_{name}": value for name, value in {**own, **more}.items()}}
    with (state / f"{service}.log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", f"services.{service}"], env=env, stdout=log, stderr=log)
    try:
        yield
    finally:
        process.terminate()
        process.wait(WAIT_S)


def wait_for(client: httpx.Client) -> None:
    """Until it listens."""
    deadline_s = time.monotonic() + WAIT_S
    while True:
        try:
            client.get("/healthz").raise_for_status()
        except httpx.TransportError:
            assert time.monotonic() < deadline_s, "it does not start"
            time.sleep(0.05)
        else:
            return
