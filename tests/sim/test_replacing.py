"""A node is replaced under whoever serves on it: the real flow of all six services, with a spare machine or without."""

from __future__ import annotations

from typing import Final

import pytest

from libs.common.events.capacity import NodeDraining, NodeLost, NodeReleased, NodeReplaced
from libs.common.events.runtime import ReplicasChanged
from tests.contract.stories import SPEC, Stage
from tests.sim.looks import Told

L40S: Final = "terraform.gpu-l40s"
OWN: Final = "l40s-dedicated"
SHARED: Final = "l40s-shared"


def an_endpoint_that_serves(stage: Stage, tier: str) -> tuple[str, str]:
    """Who holds its node (it itself, or the pool of a shared cluster), and that node."""
    endpoint = stage.create(spec=SPEC | {"tier": tier})
    stage.until_stage(endpoint, "ready")
    stage.rounds(3)
    (node,) = stage.nodes()
    return (endpoint if tier == OWN else f"sc-{tier}-eu-1"), node


def told_of(stage: Stage) -> Told:
    """Everything that was told until now."""
    told = Told(stage.sim)
    told.catch_up()
    return told


def is_replaced(stage: Stage) -> bool:
    return any(isinstance(each.data, NodeReplaced) for each in told_of(stage).events)


@pytest.mark.parametrize(
    ("tier", "spare"),
    [(OWN, True), (OWN, False), pytest.param(SHARED, True, marks=pytest.mark.chaos), (SHARED, False)],
)
def test_a_node_is_replaced_and_nothing_is_lost(tier: str, spare: bool) -> None:
    stage = Stage()
    holder, node = an_endpoint_that_serves(stage, tier)
    if not spare:
        stage.sim.twin.set_faults({"capacity": {L40S: 1}})
    before = len(told_of(stage).events)

    stage.replace(holder, node)
    stage.until(lambda: is_replaced(stage))
    stage.rounds(5)

    since = [each.data for each in told_of(stage).events[before:]]
    (draining,) = [each for each in since if isinstance(each, NodeDraining)]
    (ended,) = [each for each in since if isinstance(each, NodeReplaced)]
    assert (draining.claim, draining.surges, ended.outcome) == (node, spare, "replaced")
    assert [each.claim for each in since if isinstance(each, NodeReleased)] == [node]
    assert not [each for each in since if isinstance(each, NodeLost)]
    assert [each != node for each in stage.nodes()] == [True]
    served = [each for each in since if isinstance(each, ReplicasChanged)]
    assert all(each.replicas or each.replacing for each in served), "who finds no replica meanwhile is held"
    assert not served[-1].replacing
