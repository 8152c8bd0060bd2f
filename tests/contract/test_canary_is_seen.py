"""A leak planted in each kind of sink, by the code that writes there, is seen: else the canary test proves nothing."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, Counter, generate_latest

from libs.common.bus.nats import NatsBus
from libs.common.bus.provision import provision
from libs.common.bus.server import NatsServer
from libs.common.bus.streams import message_of
from libs.common.events.envelope import Envelope
from libs.common.events.route import RoutePublished
from libs.common.ids import EventId
from libs.common.telemetry.logging import JsonFormatter, fields
from services.router.core.serving import Serving, admit
from services.router.shell.journal.log import LogUsageJournal
from tests.support.canary import files, sightings
from tests.support.nats import nats_server
from tests.unit.router.scene import KEY, a_route

__all__ = ["nats_server"]

CANARY = "canary7f3a9b2c4d5e6f708192a3b4c5"


def a_log_line(root: Path) -> None:
    handler = logging.FileHandler(root / "router.log")
    handler.setFormatter(JsonFormatter("router"))
    record = logging.makeLogRecord({"msg": "refused", **fields(reason=f"Unrecognized: {CANARY}")})
    handler.emit(record)
    handler.close()


def a_row(root: Path) -> None:
    journal = LogUsageJournal(str(root / "usage.db"))
    route = a_route([], name="chatty").model_copy(update={"model": CANARY})
    admitted = admit(route, key_id=KEY.key_id, request_id="req-1", api="chat", now_ms=1)
    journal.begin(Serving(admitted).opening)
    journal.close()


def a_snapshot(root: Path) -> None:
    (root / "tables.json").write_text(a_route([], name=CANARY).model_dump_json())


def in_base64(root: Path) -> None:
    (root / "span.json").write_bytes(base64.b64encode(b"a prompt with " + CANARY.encode() + b" in it"))


def in_hex(root: Path) -> None:
    (root / "dump").write_text(CANARY.encode().hex())


@pytest.mark.parametrize("plant", [a_log_line, a_row, a_snapshot, in_base64, in_hex])
def test_a_leak_into_a_file_is_seen(tmp_path: Path, plant: Callable[[Path], None]) -> None:
    assert list(sightings(files(tmp_path), [CANARY])) == []

    plant(tmp_path)

    assert len(list(sightings(files(tmp_path), [CANARY]))) >= 1


def test_a_leak_into_a_metric_is_seen() -> None:
    registry = CollectorRegistry()
    Counter("asked_total", "What was asked.", ("prompt",), registry=registry).labels(prompt=CANARY).inc()

    assert list(sightings({"metrics": generate_latest(registry)}, [CANARY])) == ["canary… in metrics"]


async def test_a_leak_into_an_event_is_seen_in_the_brokers_store(nats_server: NatsServer, tmp_path: Path) -> None:
    await provision(nats_server.url)
    event = Envelope(
        id=EventId("00000000-0000-5000-8000-000000000001"),
        data=RoutePublished(url=f"http://{CANARY}"),
        subject="ep-a",
        time_ms=1,
        sequence=1,
    )
    bus = NatsBus(nats_server.url, name="test")
    await bus.start()
    try:
        await bus.publish([message_of(event)])
    finally:
        await bus.stop()

    assert list(sightings(files(tmp_path), [CANARY])) != []
