"""The proxies: each started in front of one engine, as their own documentation would have it for this work."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final

from libs.common.bus.nats import NatsBus
from libs.common.bus.port import Message, bucket_put
from libs.common.bus.provision import provision
from libs.common.bus.streams import KEYS, QUOTAS, ROUTES
from libs.common.events.runtime import Replica
from libs.common.events.tables import KeyEntry, QuotaEntry, RouteEntry
from libs.common.ids import SystemEntropy
from libs.common.keys import mint
from tests.bench.peers import venvs
from tests.bench.peers.processes import a_process, pinned
from tests.support.nats import a_started_server
from tests.support.ports import free_port

PROXY_CPU: Final = 0  # The proxy has a core to itself; engine, load and broker share the other.
OTHER_CPU: Final = 1
KEY: Final = mint(SystemEntropy())
MODEL: Final = "m"
PLENTY: Final = 1_000_000_000  # A limit that is counted against, and never reached.


@dataclass(frozen=True, slots=True)
class Proxy:
    """One that runs: where, and the root of its process tree."""

    port: int
    pid: int


Start = Callable[[Path, int], contextlib.AbstractContextManager[Proxy]]

NGINX: Final = """
worker_processes 1; pid {state}/nginx.pid; error_log {state}/nginx.err; daemon off;
events {{ worker_connections 8192; }}
http {{
  access_log off; client_body_temp_path {state}/body; proxy_temp_path {state}/proxy; fastcgi_temp_path {state}/f;
  uwsgi_temp_path {state}/u; scgi_temp_path {state}/s; client_body_buffer_size 128k; keepalive_requests 100000000;
  upstream engine {{ server 127.0.0.1:{engine}; keepalive 1024; keepalive_requests 100000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://engine; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off;
    }}
  }}
}}
"""
HAPROXY: Final = """
global
  nbthread 1
  maxconn 8192
defaults
  mode http
  timeout connect 5s
  timeout client 600s
  timeout server 600s
  option http-no-delay
frontend clients
  bind 127.0.0.1:{port} backlog 4096
  default_backend engines
backend engines
  http-reuse always
  server engine 127.0.0.1:{engine}
"""


@contextlib.contextmanager
def nginx(state: Path, engine: int) -> Iterator[Proxy]:
    """One worker, keep-alive on both sides, no buffering of answers."""
    port, config = free_port(), state / "nginx.conf"
    config.write_text(NGINX.format(state=state, engine=engine, port=port))
    with a_process(["nginx", "-c", str(config)], state / "nginx.log", port=port, cpu=PROXY_CPU) as pid:
        yield Proxy(port, pid)


@contextlib.contextmanager
def haproxy(state: Path, engine: int) -> Iterator[Proxy]:
    """One thread; `http-no-delay`, without which events of a stream wait for company."""
    port, config = free_port(), state / "haproxy.cfg"
    config.write_text(HAPROXY.format(engine=engine, port=port))
    with a_process(["haproxy", "-f", str(config), "-db"], state / "haproxy.log", port=port, cpu=PROXY_CPU) as pid:
        yield Proxy(port, pid)


@contextlib.contextmanager
def router(state: Path, engine: int) -> Iterator[Proxy]:
    """Ours, as it is shipped: a real broker, a key, limits of three kinds, the usage journal on this disk."""
    with pinned(OTHER_CPU):
        server = a_started_server(state / "nats")
    try:
        asyncio.run(provision(server.url))
        asyncio.run(_publish(server.url, list(_tables(engine))))
        port = free_port()
        env = {
            "MILLRACE_NATS_URL": server.url,
            "MILLRACE_DATABASE_URL": f"sqlite:///{state}/router.db",
            "MILLRACE_USAGE_DB": f"{state}/usage.db",
            "MILLRACE_HTTP_PORT": str(port),
            "MILLRACE_ADMIN_PORT": str(free_port()),
        }
        command = [sys.executable, "-m", "services.router"]
        ledger = [sys.executable, "-m", "tests.bench.peers.ledger", server.url]
        with (
            a_process(command, state / "router.log", port=port, cpu=PROXY_CPU, env=env) as pid,
            a_process(ledger, state / "ledger.log", port=port, cpu=OTHER_CPU),
        ):
            yield Proxy(port, pid)
    finally:
        server.kill()


LITELLM: Final = """
model_list:
  - model_name: {model}
    litellm_params: {{model: openai/{model}, api_base: "http://127.0.0.1:{engine}/v1", api_key: none}}
litellm_settings: {{telemetry: false}}
"""


@contextlib.contextmanager
def litellm(state: Path, engine: int) -> Iterator[Proxy]:
    """One worker without a database and without a key check: the least that it can do."""
    port, config = free_port(), state / "litellm.yaml"
    config.write_text(LITELLM.format(model=MODEL, engine=engine))
    command = [str(venvs.program("litellm")), "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    env = {"LITELLM_LOG": "ERROR", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    env["LITELLM_DANGEROUSLY_PERMIT_WEAK_OR_UNSET_MASTER_KEY"] = "true"  # It listens to this machine alone.
    with a_process([*command, "--num_workers", "1"], state / "litellm.log", port=port, cpu=PROXY_CPU, env=env) as pid:
        yield Proxy(port, pid)


@contextlib.contextmanager
def vllm_router(state: Path, engine: int) -> Iterator[Proxy]:
    """One engine, in turns."""
    port = free_port()
    command = [str(venvs.program("vllm-router")), "--host", "127.0.0.1", "--port", str(port)]
    command += ["--policy", "round_robin", "--prometheus-port", str(free_port())]
    command += ["--worker-urls", f"http://127.0.0.1:{engine}"]
    with a_process(command, state / "vllm-router.log", port=port, cpu=PROXY_CPU) as pid:
        yield Proxy(port, pid)


@contextlib.contextmanager
def bare(state: Path, engine: int) -> Iterator[Proxy]:
    """Ours without anything that a router is for: bytes in, bytes out, in Python."""
    port = free_port()
    command = [sys.executable, "-m", "tests.bench.peers.bare", str(port), str(engine)]
    with a_process(command, state / "bare.log", port=port, cpu=PROXY_CPU) as pid:
        yield Proxy(port, pid)


@contextlib.contextmanager
def nothing(_state: Path, engine: int) -> Iterator[Proxy]:
    """The engine itself."""
    yield Proxy(engine, 0)


def _tables(engine: int) -> Iterator[Message]:
    key = KeyEntry(key_id=KEY.key_id, sha256=KEY.sha256, tenant_id="acme", project_id="main", scopes=("inference",))
    route = RouteEntry(
        endpoint_id="ep-1", tenant_id="acme", project_id="main", name=MODEL, generation=1, model="engine-m",
        tier="h100-dedicated", region="eu-1", published_at_ms=1,
        replicas=tuple(Replica(name=f"pod-{n}", url=f"http://127.0.0.1:{engine}", model=f"m-{n}") for n in range(4)),
    )  # fmt: skip
    quota = QuotaEntry(tenant_id="acme", requests_per_minute=PLENTY, tokens_per_minute=PLENTY)
    for bucket, name, entry in ((KEYS, KEY.key_id, key), (ROUTES, "ep-1", route), (QUOTAS, "acme", quota)):
        yield bucket_put(bucket=bucket, key=name, value=entry.model_dump_json().encode(), id=f"{bucket}-{name}")


async def _publish(url: str, messages: list[Message]) -> None:
    bus = NatsBus(url, name="bench")
    await bus.start()
    await bus.publish(messages)
    await bus.stop()


PROXIES: Final[Mapping[str, Start]] = MappingProxyType(
    {
        "nginx": nginx,
        "haproxy": haproxy,
        "bare relay": bare,
        "router": router,
        "vllm-router": vllm_router,
        "litellm": litellm,
    }
)


OURS: Final = ("router", "bare relay")


def present() -> dict[str, Start]:
    """Those that can run on this machine."""
    found = {}
    for name, start in PROXIES.items():
        if name in OURS or shutil.which(name) or venvs.program(name).exists():
            found[name] = start
        else:
            how = "python -m tests.bench.peers.venvs" if name in venvs.WANTED else f"apt-get install {name}"
            print(f"{name} is not here: {how}", file=sys.stderr)
    return found
