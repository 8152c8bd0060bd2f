"""What a bill may not contain, and what the README must."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from prometheus_client import Counter, Gauge

from libs.common.events.catalog import heard_by, told_by
from libs.common.events.event import Internal, Owner
from services import metering
from services.metering.core.accounts import ACCOUNT_OF_STAGE, Flaw
from services.metering.core.exports.state import Reason
from services.metering.shell import metrics
from tests.unit.metering.world import World

ROOT = Path(metering.__file__).parent
README = ROOT / "README.md"


def floats_in(source: str) -> list[str]:
    """Every way in which a float could come about: a literal, the type's name, or a true division."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, float):
            found.append(f"{node.lineno}: {node.value}")
        if isinstance(node, ast.Name) and node.id == "float":
            found.append(f"{node.lineno}: float")
        if isinstance(node, (ast.BinOp, ast.AugAssign)) and isinstance(node.op, ast.Div):
            found.append(f"{node.lineno}: /")
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "round":
            found.append(f"{node.lineno}: round")
    return found


@pytest.mark.parametrize("module", sorted((ROOT / "core").rglob("*.py")), ids=lambda each: each.stem)
def test_no_float_comes_near_a_bill(module: Path) -> None:
    assert floats_in(module.read_text()) == []


@pytest.mark.parametrize("planted", ["x = 1.5", "x = a / b", "x /= 2", "x: float = 1", "x = round(y)"])
def test_a_planted_float_is_found(planted: str) -> None:
    assert floats_in(planted)


def test_every_event_that_is_delivered_is_heard_by_somebody() -> None:
    heard = {kind for runner in build_runners() for kind in runner if not issubclass(kind, Internal)}

    assert heard == set(heard_by(Owner.METERING))


def build_runners() -> list[set[type]]:
    """What each kind hears."""
    return [set(each.owned.hears) for each in World().service.runners]


def test_producers_come_before_meters_so_that_a_mark_never_precedes_its_entries() -> None:
    kinds = [each.owned.kind for each in World().service.runners]

    assert kinds.index("producer") < kinds.index("meter")


def test_the_readme_names_every_event_metric_account_and_flaw() -> None:
    text = README.read_text()
    names = [each.kind for each in (*heard_by(Owner.METERING), *told_by(Owner.METERING))]
    names += [each._name for each in vars(metrics).values() if isinstance(each, Counter | Gauge)]
    names += [*{each.value for each in ACCOUNT_OF_STAGE.values()}, *Flaw, *Reason]

    assert [each for each in names if f"`{each}`" not in text] == []


def test_the_readme_has_the_stages_of_each_account() -> None:
    text = README.read_text()

    for stage, account in ACCOUNT_OF_STAGE.items():
        assert f"    {stage} --> {account}" in text
