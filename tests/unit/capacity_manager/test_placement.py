"""How many nodes, whether they fit, and why not."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.events.endpoint import Placement
from services.capacity_manager.core.observed import NodeTypeSeen
from services.capacity_manager.core.placement import nodes_for, nodes_wanted, replicas_that_fit, shortage
from services.capacity_manager.core.state import Count
from tests.unit.capacity_manager.builders import PLACEMENT, a_spec


def gpus(*, per_node: int, per_replica: int) -> Placement:
    return PLACEMENT.model_copy(update={"gpus_per_node": per_node, "gpus_per_replica": per_replica})


@pytest.mark.parametrize(
    ("replicas", "per_node", "per_replica", "nodes"),
    [(1, 8, 4, 1), (2, 8, 4, 1), (3, 8, 4, 2), (1, 1, 1, 1), (5, 1, 1, 5), (3, 8, 3, 2), (1, 8, 16, 2), (2, 8, 9, 4)],
)
def test_replicas_take_the_fewest_whole_nodes(replicas: int, per_node: int, per_replica: int, nodes: int) -> None:
    assert nodes_for(replicas, gpus(per_node=per_node, per_replica=per_replica)) == nodes


@given(st.integers(1, 64), st.integers(1, 16), st.integers(1, 32))
def test_the_wanted_nodes_carry_the_replicas_and_one_node_less_does_not(
    replicas: int, per_node: int, per_replica: int
) -> None:
    placement = gpus(per_node=per_node, per_replica=per_replica)
    nodes = nodes_for(replicas, placement)

    assert replicas_that_fit([per_node] * nodes, placement) >= replicas
    assert replicas_that_fit([per_node] * (nodes - 1), placement) < replicas


@given(st.integers(1, 8), st.integers(0, 8), st.integers(0, 200), st.integers(0, 64))
def test_a_plan_is_kept_within_the_limits_of_the_spec_and_never_below_what_runs(
    fewest: int, more: int, planned: int, running: int
) -> None:
    spec, placement = a_spec(fewest=fewest, most=fewest + more), gpus(per_node=1, per_replica=1)

    nodes = nodes_wanted(spec, placement, Count(planned, 1), Count(running, 1))

    assert nodes == max(min(max(planned, fewest), fewest + more), running)


def test_until_a_plan_is_heard_the_fewest_replicas_count() -> None:
    assert nodes_wanted(a_spec(fewest=3), gpus(per_node=1, per_replica=1), None, None) == 3


def test_gpus_scattered_over_nodes_carry_no_replica_that_needs_them_together() -> None:
    assert replicas_that_fit([3, 3, 3], gpus(per_node=8, per_replica=4)) == 0
    assert replicas_that_fit([8, 7], gpus(per_node=8, per_replica=4)) == 3


def test_a_claim_is_refused_for_now_when_too_few_nodes_are_free_and_told_how_many() -> None:
    why = shortage(3, PLACEMENT, NodeTypeSeen(is_known=True, free=1))

    assert why is not None
    assert (why.reason, why.message.startswith("3 more nodes of type metal3.gpu-h100 wanted, 1 free")) == (
        "NoCapacity",
        True,
    )


def test_a_node_type_without_a_limit_always_has_room() -> None:
    assert shortage(999, PLACEMENT, NodeTypeSeen(is_known=True, free=None)) is None
