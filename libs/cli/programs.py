"""Which processes the local profile consists of, in the order in which they start."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from typing import Final

from libs.cli.profile import CATALOGUE, Home, LocalSettings, database_url
from libs.common import key_snapshot
from libs.common.events.event import Owner

SERVICES: Final = tuple(Owner)


@dataclass(frozen=True, slots=True)
class Program:
    """One process of the profile. `once` ends by itself and must succeed before the next begins."""

    name: str
    argv: tuple[str, ...]
    env: dict[str, str]
    ready_url: str | None = None
    once: bool = False


def programs(home: Home, settings: LocalSettings, nats: Program) -> tuple[Program, ...]:
    """The processes of the profile in the order in which they start: bus, streams, world, six services."""
    python, ports = sys.executable, settings.ports
    nats_url = f"nats://127.0.0.1:{ports.nats}"
    monitor_url = f"http://127.0.0.1:{ports.nats_monitor}"
    provision = (python, "-m", "libs.common.bus.provision", "--nats", nats_url, "--monitor", monitor_url)
    twin = (
        *(python, "-m", "libs.twin", "--port", str(ports.twin), "--access-key-file", str(home.twin_key)),
        *("--time-scale", str(settings.twin.time_scale), "--tokens-per-second", str(settings.twin.tokens_per_second)),
        *("--volumes-dir", str(home.path / "volumes")),
    )
    return (
        nats,
        Program("provision", provision, {}, once=True),
        Program("twin", twin, {}, f"http://127.0.0.1:{ports.twin}/healthz"),
        *(_service(home, settings, each) for each in SERVICES),
    )


def database_of(home: Home, service: Owner) -> str:
    """Where `up` had a service keep its records: by the plan that it wrote; if it never ran, where it would."""
    plan = json.loads(home.plan.read_text()) if home.plan.exists() else []
    kept = [each["env"]["MILLRACE_DATABASE_URL"] for each in plan if each["name"] == service]
    return str(kept[0]) if kept else database_url(home, LocalSettings(), service)


def _service(home: Home, settings: LocalSettings, service: Owner) -> Program:
    ports = settings.ports
    env = {
        "MILLRACE_NATS_URL": f"nats://127.0.0.1:{ports.nats}",
        "MILLRACE_DATABASE_URL": database_url(home, settings, service),
        "MILLRACE_ADMIN_PORT": str(ports.admin(service)),
        "MILLRACE_LOG_LEVEL": settings.services.log_level,
        **_own_settings(home, settings).get(service, {}),
    }
    ready = f"http://127.0.0.1:{ports.admin(service)}/readyz"
    return Program(service, (sys.executable, "-m", f"services.{service.replace('-', '_')}"), env, ready)


def _own_settings(home: Home, settings: LocalSettings) -> dict[Owner, dict[str, str]]:
    ports, templates = settings.ports, os.environ.get("MILLRACE_RUNTIME_TEMPLATES_DIR")
    twin = f"http://127.0.0.1:{ports.twin}"
    catalogue = {"MILLRACE_CATALOGUE_DIR": os.environ.get("MILLRACE_CATALOGUE_DIR", str(home.catalogue))}
    platform = {"MILLRACE_PLATFORM_URL": twin, "MILLRACE_PLATFORM_KEY_FILE": str(home.twin_key), **catalogue}
    return {
        Owner.ENDPOINT_API: {
            "MILLRACE_HTTP_PORT": str(ports.endpoint_api),
            "MILLRACE_BOOTSTRAP_FILE": str(home.bootstrap),
            "MILLRACE_KEY_SNAPSHOT_SIGNING_FILE": str(home.snapshot_key),
            **catalogue,
            "MILLRACE_WEBHOOKS_TO_LOOPBACK": "true",  # Everything is on this machine, receivers too.
        },
        Owner.CAPACITY_MANAGER: {**platform, "MILLRACE_CONFIRM_GONE_S": str(settings.services.confirm_gone_s)},
        Owner.RUNTIME_DEPLOYER: {**platform, **({"MILLRACE_TEMPLATES_DIR": templates} if templates else {})},
        Owner.ROUTER: {
            "MILLRACE_HTTP_PORT": str(ports.router),
            "MILLRACE_PUBLIC_URL": f"http://127.0.0.1:{ports.router}/v1",
            "MILLRACE_USAGE_DB": str(home.path / "usage-journal.db"),
            "MILLRACE_KEY_SNAPSHOT_URL": f"http://127.0.0.1:{ports.admin(Owner.ENDPOINT_API)}{key_snapshot.PATH}",
            "MILLRACE_KEY_SNAPSHOT_PUBLIC_FILE": str(home.snapshot_public),
        },
        Owner.METERING: {
            "MILLRACE_HTTP_PORT": str(ports.usage),
            "MILLRACE_WINDOW_S": str(settings.services.window_s),
            "MILLRACE_PRICES_FILE": os.environ.get("MILLRACE_PRICES_FILE", str(CATALOGUE / "prices.yaml")),
        },
    }
