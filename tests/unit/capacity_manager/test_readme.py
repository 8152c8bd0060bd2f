"""What the README says is what the code has."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from libs.common.events.catalog import heard_by, told_by
from libs.common.events.event import Owner
from services.capacity_manager.core.lifecycle import LIFECYCLE
from services.capacity_manager.core.reasons import Reason
from services.capacity_manager.service import HEARS
from services.capacity_manager.shell import metrics
from services.capacity_manager.shell.settings import Settings

README: Final = (Path(__file__).parents[3] / "services" / "capacity_manager" / "README.md").read_text()


def test_the_picture_is_drawn_from_the_table() -> None:
    assert f"```mermaid\n{LIFECYCLE.mermaid()}\n```" in README


def test_every_event_told_and_heard_is_named() -> None:
    for kind in (*told_by(Owner.CAPACITY_MANAGER), *heard_by(Owner.CAPACITY_MANAGER)):
        assert f"`{kind.kind}`" in README, kind.kind


def test_it_hears_exactly_what_is_delivered_to_it() -> None:
    assert set(HEARS) == set(heard_by(Owner.CAPACITY_MANAGER))


def test_every_reason_setting_and_metric_is_named() -> None:
    for reason in Reason:
        assert f"`{reason}`" in README, reason
    for name in set(Settings.model_fields) - set(Settings.__mro__[1].model_fields):  # type: ignore[attr-defined]  # The common ones.
        assert f"MILLRACE_{name.upper()}" in README, name
    for each in (
        metrics.CLAIMS,
        metrics.GPUS_HELD,
        metrics.NODES,
        metrics.WAITING,
        metrics.RELEASE_AGE,
        metrics.ORPHANS,
        metrics.COLLECTED,
        metrics.POOL_NODES,
        metrics.DRAWN,
        metrics.HITS,
        metrics.TARGET,
        metrics.IDLE_COST,
        metrics.IDLE_GPU,
    ):
        assert next(iter(each.describe())).name in README
