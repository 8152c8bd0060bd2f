"""Who holds what and why, and what a change of the node class would come to."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest

from services.capacity_manager.core.holdings import NodeClass, changes, holdings
from services.capacity_manager.core.lifecycle import Stage
from services.capacity_manager.shell import holding
from tests.support.ports import free_port
from tests.unit.capacity_manager.builders import (
    NODE_TYPE,
    NOW,
    REMOVED,
    Bench,
    a_cluster,
    a_node,
    an_envelope,
    deletion,
    held,
    requested,
)
from tests.unit.capacity_manager.test_orphans import FOUND

L40S: Final = "terraform.gpu-l40s"
CLASSES: Final = {
    NODE_TYPE: NodeClass(NODE_TYPE, gpus=8, free=2, cost=80_000),
    L40S: NodeClass(L40S, gpus=1, free=20, cost=10_000),
    "big": NodeClass("big", gpus=16, free=1, cost=200_000),
}


def test_a_claim_that_serves_says_what_it_holds_since_when_and_at_what_cost() -> None:
    (found,) = holdings([held(Bench(), fewest=2).claim], CLASSES)

    assert (found.stage, found.why, found.nodes, found.gpus) == (Stage.HELD, "serves", 2, 16)
    assert (found.since_ms, found.cost) == (NOW, 160_000)


def test_a_claim_that_waits_says_for_what() -> None:
    bench = Bench()
    bench.hear(requested())
    bench.trouble("PlatformUnauthorized")

    (found,) = holdings([bench.claim], CLASSES)

    assert (found.why, found.nodes, found.cost, found.since_ms) == ("PlatformUnauthorized", 0, 0, None)


def test_what_is_given_back_is_held_until_it_is_gone() -> None:
    bench = held(Bench())
    bench.hear(deletion(), generation=2, sequence=2)
    bench.hear(REMOVED, generation=2)
    (found,) = holdings([bench.claim], CLASSES)
    assert (found.stage, found.why, found.wanted, found.nodes) == (Stage.RELEASING, "being given back", 0, 1)
    bench.see()
    bench.wake()
    bench.see()

    assert holdings([bench.claim], CLASSES) == ()


def test_an_orphan_that_is_given_back_is_named_as_one() -> None:
    bench = Bench()
    bench.take(an_envelope(FOUND))
    bench.see(cluster=a_cluster(1), nodes=[a_node("n1", joined_at_ms=NOW - 1)])

    (found,) = holdings([bench.claim], CLASSES)

    assert found.why == "found on the Platform; nobody asked for it"
    assert (found.nodes, found.gpus, found.cost, found.since_ms) == (1, 8, 80_000, NOW - 1)


def outcome(new: str, *, gpus_max: int = 64, claims: int = 1, fewest: int = 1) -> list[str]:
    bench = held(Bench(), fewest=fewest)
    found = changes([bench.claim] * claims, CLASSES, old=NODE_TYPE, new=new, gpus_max=gpus_max)
    return [each.refusal for each in found]


def test_a_change_that_fits_says_what_it_would_cost() -> None:
    (found,) = changes([held(Bench()).claim], CLASSES, old=NODE_TYPE, new=L40S, gpus_max=64)

    assert (found.nodes, found.nodes_after, found.cost, found.cost_after) == (1, 8, 80_000, 80_000)
    assert found.refusal == ""


def test_a_change_that_can_not_be_says_why() -> None:
    assert outcome("unheard-of") == ["the Platform knows no node type unheard-of"]
    assert outcome(L40S, gpus_max=4) == ["its tenant may have 4 GPUs of a type"]
    assert outcome(L40S, fewest=3) == ["24 of terraform.gpu-l40s wanted, 20 free"]


def test_the_first_takes_the_room_that_the_next_then_lacks() -> None:
    assert outcome("big", claims=2, gpus_max=640) == ["", "1 of big wanted, 0 free"]


def test_what_is_unwanted_or_of_another_class_is_not_moved() -> None:
    bench = held(Bench())
    assert changes([bench.claim], CLASSES, old=L40S, new=NODE_TYPE, gpus_max=64) == ()
    bench.hear(deletion(), generation=2, sequence=2)

    assert changes([bench.claim], CLASSES, old=NODE_TYPE, new=L40S, gpus_max=64) == ()


def test_a_platform_that_is_away_is_told_with_what_to_do_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "key").write_text("k")
    told = {
        "PLATFORM_URL": f"http://127.0.0.1:{free_port()}",
        "PLATFORM_KEY_FILE": str(tmp_path / "key"),
        "DATABASE_URL": f"sqlite:///{tmp_path}/capacity.db",
    }
    for name, value in told.items():
        monkeypatch.setenv(f"MILLRACE_{name}", value)

    assert holding.main(()) == holding.EXIT_USAGE
    assert capsys.readouterr().err.endswith("is unknown: is it running? `millrace status` tells\n")
