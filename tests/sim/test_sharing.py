"""Endpoints that share a tenant cluster live through the same troubles, under the same checkers."""

from __future__ import annotations

import pytest

from tests.sim.customers import TIERS
from tests.sim.world import Simulation

SHARED = ("l40s-shared", "l40s-tenant", "l40s-sandboxed")


def sharing(simulation: Simulation) -> None:
    simulation.customers.tiers = (*TIERS, *SHARED)


@pytest.mark.parametrize("seeds", [range(3), pytest.param(range(3, 60), marks=pytest.mark.chaos)], ids=["few", "many"])
def test_who_shares_a_cluster_loses_nothing_and_leaves_nothing(seeds: range) -> None:
    for seed in seeds:
        Simulation(seed, plant=sharing).run()
