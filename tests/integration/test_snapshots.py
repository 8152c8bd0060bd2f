"""Snapshots of a tenant cluster: taken by the schedule of its template, and a restore that says what it would do."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from libs.common.clock import ManualClock
from libs.common.errors import NotFound, Rejected
from libs.common.store.memory import MemoryStore
from libs.common.units import DAY_MS
from libs.twin import kinds
from libs.twin.fake_engines import FakeEngines
from libs.twin.inprocess import WorldTransport
from libs.twin.options import DEFAULT_KEY, TwinOptions
from libs.twin.world import World
from services.capacity_manager.core.cluster_template import Recipe, Schedule
from services.capacity_manager.core.lifecycle import Stage, stage_of
from services.capacity_manager.core.state import CLAIM
from services.capacity_manager.core.tenancy import Tenancy
from services.capacity_manager.service import build
from services.capacity_manager.shell.platform import Platform, PlatformClient
from services.capacity_manager.shell.platform.snapshotting import Snapshots
from services.capacity_manager.shell.ports import Ports
from services.capacity_manager.shell.restoring import RestoreDesk, operate, run_program
from services.capacity_manager.shell.templates import template_of
from tests.unit.capacity_manager.builders import ENDPOINT, PLACEMENT, RULES, an_envelope, requested

NIGHTLY = Schedule("0 3 * * *", "UTC", 7, 3, "s3://millrace-snapshots/eu-1", "snapshots", "platform")
RECIPE = Recipe(
    name="nightly-h100",
    version="2.0.0",
    tenancy=Tenancy.PRIVATE_NODES,
    chart="0.37.2",
    provider="metal3",
    node_type="metal3.gpu-h100",
    nodes_max=8,
    snapshots=NIGHTLY,
)


@dataclass
class Rig:
    """An endpoint that has its cluster, whose template says when a snapshot is taken."""

    folder: Path
    ran: list[Sequence[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        key = self.folder / "key"
        key.write_text(DEFAULT_KEY)
        self.clock = ManualClock()
        self.world = World(self.clock, TwinOptions(time_scale=0.01), FakeEngines())
        client = PlatformClient(url="http://twin", key_file=key, transport=WorldTransport(self.world))
        template = template_of(RECIPE)
        platform = Platform(client, templates={(template.name, template.version): template})
        ports = Ports(MemoryStore(), self.clock, platform, RULES, resync_ms=1_000)
        self.service = build(ports)
        placement = PLACEMENT.model_copy(update={"cluster_template": "nightly-h100@2.0.0"})
        self.service.handle(an_envelope(requested().model_copy(update={"placement": placement})))
        claims: Any = self.service.runner(CLAIM)
        for _ in range(200):
            self.clock.advance(500)
            self.service.tick()
            self.service.reconcile()
            if stage_of(claims.state(ENDPOINT)) is Stage.HELD:
                break
        self.desk = RestoreDesk(claims, Snapshots(client, platform), run=self._run)

    def _run(self, command: Sequence[str]) -> str:
        self.ran.append(command)
        return "restored"


@pytest.fixture
def rig(tmp_path: Path) -> Rig:
    return Rig(tmp_path)


def said(rig: Rig, capsys: pytest.CaptureFixture[str], *argv: str) -> Any:
    capsys.readouterr()
    operate(argv, rig.desk)
    return json.loads(capsys.readouterr().out)


def test_snapshots_are_taken_by_the_schedule_of_the_template_and_kept_as_long_as_it_says(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said(rig, capsys, "snapshots", ENDPOINT)["snapshots"] == []

    rig.clock.advance(2 * DAY_MS)
    two = said(rig, capsys, "snapshots", ENDPOINT)["snapshots"]
    rig.clock.advance(20 * DAY_MS)
    many = said(rig, capsys, "snapshots", ENDPOINT)["snapshots"]

    assert [each["at"][11:] for each in two] == ["03:00:00Z", "03:00:00Z"]
    assert len(many) == NIGHTLY.keep_max


def test_a_restore_says_what_it_would_overwrite_and_does_nothing_until_told_to(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    rig.clock.advance(2 * DAY_MS)
    (newest, _) = said(rig, capsys, "snapshots", ENDPOINT)["snapshots"]

    dry = said(rig, capsys, "restore", ENDPOINT, newest["id"])
    assert rig.ran == []
    done = said(rig, capsys, "restore", ENDPOINT, newest["id"], "--yes")

    assert dry["dry_run"]
    assert any("back to" in each for each in dry["overwrites"])
    assert any("not its volumes" in each for each in dry["overwrites"])
    assert rig.ran == [tuple(done["command"])]
    assert done["command"][:4] == ["vcluster", "restore", "ep-abc", newest["url"]]
    assert done["command"][-1].endswith("-v-ep-abc")


def test_what_is_another_owners_or_is_not_there_is_refused_and_nothing_runs(
    rig: Rig, capsys: pytest.CaptureFixture[str]
) -> None:
    rig.clock.advance(2 * DAY_MS)
    (newest, _) = said(rig, capsys, "snapshots", ENDPOINT)["snapshots"]

    with pytest.raises(NotFound, match="has no snapshot other"):
        operate(["restore", ENDPOINT, "other", "--yes"], rig.desk)
    with pytest.raises(NotFound, match="no endpoint ep-nobody"):
        operate(["restore", "ep-nobody", newest["id"], "--yes"], rig.desk)
    (instance,) = rig.world.store.all(kinds.INSTANCES)
    rig.world.store.edit(
        kinds.INSTANCES, instance, lambda fresh: fresh["metadata"]["labels"].update({"millrace.dev/endpoint": "ep-b"})
    )
    with pytest.raises(Rejected, match="not a cluster of ours"):
        operate(["restore", ENDPOINT, newest["id"], "--yes"], rig.desk)

    assert rig.ran == []


def test_a_licence_without_snapshots_refuses_the_template_and_says_so(tmp_path: Path) -> None:
    rig = Rig(tmp_path)
    rig.world.set_faults({"unlicensed": ("scheduled-snapshots",)})

    (instance,) = rig.world.store.all(kinds.INSTANCES)
    rig.clock.advance(1_000)
    rig.world.advance()

    (instance,) = rig.world.store.all(kinds.INSTANCES)
    assert "scheduled-snapshots" in json.dumps(instance["status"])


def test_the_vendors_program_is_run_as_it_is_and_what_it_says_last_is_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "vcluster"
    program.write_text(f"#!{sys.executable}\nimport sys\nprint(' '.join(sys.argv[1:]))\nsys.exit('bad' in sys.argv)\n")
    program.chmod(0o755)
    with pytest.raises(Rejected, match="is not installed here"):
        run_program(["vcluster-that-is-nowhere", "restore"])
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")

    assert run_program(["vcluster", "restore", "ep-abc"]) == "restore ep-abc"
    with pytest.raises(Rejected, match="without a word"):
        run_program(["vcluster", "bad"])
