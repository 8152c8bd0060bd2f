"""What the README must say, and that the service hears all that is sent to it."""

from __future__ import annotations

from pathlib import Path

import pytest
from prometheus_client import Gauge

from libs.common.events.catalog import heard_by, told_by
from libs.common.events.event import Owner
from services import autoscaler
from services.autoscaler.__main__ import EXIT_WRONG, count_once, main
from services.autoscaler.core.policy import Policy
from services.autoscaler.core.scaling import Hold
from services.autoscaler.shell import metrics
from services.autoscaler.shell.ports import Ports
from services.autoscaler.shell.settings import Settings
from tests.unit.autoscaler.world import World

README = Path(autoscaler.__file__).parent / "README.md"


def test_every_event_that_is_delivered_is_heard() -> None:
    heard = {kind for runner in World().service.runners for kind in runner.owned.hears}

    assert heard == set(heard_by(Owner.AUTOSCALER))


def test_the_readme_names_every_event_metric_and_hold() -> None:
    text = README.read_text()
    names = [each.kind for each in (*heard_by(Owner.AUTOSCALER), *told_by(Owner.AUTOSCALER))]
    names += [each._name for each in vars(metrics).values() if isinstance(each, Gauge)]

    assert [each for each in (*names, *Hold) if f"`{each}`" not in text] == []


def test_the_settings_turn_the_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MILLRACE_DATABASE_URL", "sqlite:////nowhere.db")
    assert Settings().policy == Policy()

    monkeypatch.setenv("MILLRACE_STABLE_WINDOW_S", "10")
    monkeypatch.setenv("MILLRACE_PANIC_WINDOW_S", "20")

    assert (Settings().policy.stable_ms, Settings().policy.panic_ms) == (10_000, 10_000)


def test_wrong_settings_are_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("MILLRACE_DATABASE_URL", "sqlite:////nowhere.db")
    monkeypatch.setenv("MILLRACE_STABLE_WINDOW_S", "soon")

    assert main() == EXIT_WRONG
    assert "MILLRACE_STABLE_WINDOW_S" in capsys.readouterr().err


def test_a_process_counts_what_is_stored() -> None:
    world = World()
    world.pass_time(60, milli=30_000)
    metrics.REPLICAS_ABOVE_MIN.set(0)

    count_once(world.service.runners[0], Ports(world.store, world.clock))

    assert metrics.REPLICAS_ABOVE_MIN._value.get() == 3
