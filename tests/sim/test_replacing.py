"""A node is replaced under whoever serves on it: the real flow of all six services, with a spare machine or without."""

from __future__ import annotations

from typing import Final

import pytest

from libs.common.events.capacity import NodeDraining, NodeLost, NodeReleased, NodeReplaced
from libs.common.events.runtime import ReplicasChanged
from tests.contract.stories import Stage
from tests.sim.looks import Told

L40S: Final = "terraform.gpu-l40s"


def an_endpoint_that_serves(stage: Stage) -> tuple[str, str]:
    """It, and its node."""
    endpoint = stage.create()
    stage.until_stage(endpoint, "ready")
    stage.rounds(3)
    (node,) = stage.nodes()
    return endpoint, node


def told_of(stage: Stage) -> Told:
    """Everything that was told until now."""
    told = Told(stage.sim)
    told.catch_up()
    return told


def is_replaced(stage: Stage) -> bool:
    return any(isinstance(each.data, NodeReplaced) for each in told_of(stage).events)


@pytest.mark.parametrize("spare", [True, False])
def test_a_node_is_replaced_and_nothing_is_lost(spare: bool) -> None:
    stage = Stage()
    endpoint, node = an_endpoint_that_serves(stage)
    if not spare:
        stage.sim.twin.set_faults({"capacity": {L40S: 1}})
    before = len(told_of(stage).events)

    stage.replace(endpoint, node)
    stage.until(lambda: is_replaced(stage))
    stage.until_stage(endpoint, "ready")

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
