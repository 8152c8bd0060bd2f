"""`millrace nodes` on the records of the service: what there is, and an order that is kept."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from libs.common.clock import ManualClock
from libs.common.errors import NotFound, Rejected
from libs.common.runner import Runner
from libs.common.store.memory import MemoryStore
from services.capacity_manager.core.observed import Observed
from services.capacity_manager.core.pools import Pool, PoolSeen
from services.capacity_manager.core.question import question_of
from services.capacity_manager.core.state import Step
from services.capacity_manager.core.vnode import Sandboxes
from services.capacity_manager.service import owned, owned_pools
from services.capacity_manager.shell.node_life import Desk, operate
from tests.unit.capacity_manager.a_pool import FOUND, POOL_RULES, a_pool_cluster
from tests.unit.capacity_manager.builders import (
    ENDPOINT,
    READY_PROJECT,
    ROOMY,
    RULES,
    a_cluster,
    a_machine,
    a_node,
    an_envelope,
    requested,
)


def not_looked_at(pool: Pool) -> PoolSeen:
    raise AssertionError(f"nothing of {pool.id} depends on how it is now")


@pytest.fixture
def desk() -> Desk:
    """A desk over one endpoint that has its node."""
    store, clock = MemoryStore(), ManualClock()
    claims = Runner(owned(RULES), store=store, clock=clock)
    claims.take(ENDPOINT, an_envelope(requested()))
    for cluster, nodes in ((None, ()), (a_cluster(), (a_node("n0"),)), (a_cluster(), (a_node("n0"),))):
        claim = claims.state(ENDPOINT)
        assert claim is not None
        seen = Observed(
            question=question_of(claim), project=READY_PROJECT, cluster=cluster, nodes=nodes, node_type=ROOMY
        )  # fmt: skip
        claims.take(ENDPOINT, an_envelope(seen, sequence=len(nodes) + claim.look))
    return Desk(claims, Runner(owned_pools(POOL_RULES), store=store, clock=clock), clock, POOL_RULES, not_looked_at)


def test_every_node_is_listed_with_its_holder(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    operate(["list"], desk)

    (node,) = json.loads(capsys.readouterr().out)["nodes"]
    assert (node["node"], node["holder"], node["state"], node["gpus"]) == ("n0", ENDPOINT, "serving", 8)


def test_a_node_that_is_to_be_replaced_is_so_in_the_record_and_dry_in_none(
    desk: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    operate(["replace", "n0", "--reason", "driver 570", "--dry-run"], desk)
    untouched = desk.claims.state(ENDPOINT)
    operate(["replace", "n0", "--reason", "driver 570"], desk)

    after = desk.claims.state(ENDPOINT)
    assert untouched is not None
    assert after is not None
    assert untouched.replacements == ()
    (job,) = after.replacements
    assert (job.node, job.reason, job.step) == ("n0", "driver 570", Step.PREPARING)
    assert job.actor.startswith("operator:")
    assert '"ahead": 0' in capsys.readouterr().out


def test_a_tier_is_rolled_only_if_all_of_its_clusters_can_be(desk: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Rejected, match="not of inference-l40s"):
        operate(["roll", "h100-dedicated", "inference-l40s@2.0.0", "--reason", "x"], desk)
    with pytest.raises(NotFound, match="no endpoint of tier nothing"):
        operate(["roll", "nothing", "inference-h100@1.1.0", "--reason", "x"], desk)

    operate(["roll", "h100-dedicated", "inference-h100@1.1.0", "--reason", "chart 0.37"], desk)

    after = desk.claims.state(ENDPOINT)
    assert after is not None
    assert after.roll is not None
    assert (after.roll.template, after.roll.reason) == ("inference-h100@1.1.0", "chart 0.37")
    assert json.loads(capsys.readouterr().out)["nodes"] == 1


@pytest.fixture
def pooled(desk: Desk) -> Desk:
    """A desk over a shared cluster whose pods run in sandboxes, and whose template says nothing of its image."""
    rules = replace(POOL_RULES, sandboxes=Sandboxes(frozenset({"l40s-shared"})))
    pools = Runner(owned_pools(rules), store=MemoryStore(), clock=desk.clock)
    cluster = a_pool_cluster("ep-a", quantity=1).model_copy(update={"template": "sandbox@1.0.0"})
    for number, news in enumerate((FOUND, PoolSeen(look=2, cluster=cluster, nodes=(a_node("p0"),)))):
        pools.take("sc-a", an_envelope(news, sequence=number))

    def look(pool: Pool) -> PoolSeen:
        return PoolSeen(look=pool.look, cluster=cluster, free=0, machines=(a_machine("p0"),))

    return replace(desk, pools=pools, rules=rules, look=look)


def test_a_node_of_a_pool_is_replaced_like_any_other(pooled: Desk, capsys: pytest.CaptureFixture[str]) -> None:
    desk = replace(pooled, rules=POOL_RULES)

    operate(["replace", "p0", "--reason", "driver 570"], desk)

    assert json.loads(capsys.readouterr().out)["holder"] == "sc-a"
    pool = desk.pools.state("sc-a")
    assert pool is not None
    assert [each.node for each in pool.replacements] == ["p0"]
    operate(["list"], desk)
    states = {each["node"]: each["state"] for each in json.loads(capsys.readouterr().out)["nodes"]}
    assert states["p0"] == "to be replaced: preparing"


@pytest.mark.parametrize("verb", [["replace", "p0"], ["roll", "l40s-shared", "sandbox@1.1.0"]])
@pytest.mark.parametrize("dry", [[], ["--dry-run"]])
def test_what_sandboxes_could_not_run_on_is_refused_with_an_offer_before_anything_is_written(
    pooled: Desk, verb: list[str], dry: list[str]
) -> None:
    before = pooled.pools.state("sc-a")

    with pytest.raises(Rejected, match=r"VNodeImageUnknown: no machine is free .*; write both under nodes\.image"):
        operate([*verb, "--reason", "driver 570", *dry], pooled)

    assert pooled.pools.state("sc-a") == before


def test_a_shared_tier_is_rolled_by_its_clusters_not_by_who_is_in_them(
    pooled: Desk, capsys: pytest.CaptureFixture[str]
) -> None:
    desk = replace(pooled, rules=POOL_RULES)

    operate(["roll", "l40s-shared", "sandbox@1.1.0", "--reason", "OS image"], desk)

    said = json.loads(capsys.readouterr().out)
    assert (said["clusters"], said["nodes"]) == (["sc-a"], 1)
    pool = desk.pools.state("sc-a")
    assert pool is not None
    assert pool.roll is not None
    assert pool.roll.template == "sandbox@1.1.0"


def test_a_node_that_nobody_holds_is_said_to_be_none(desk: Desk) -> None:
    with pytest.raises(NotFound, match="n9"):
        operate(["replace", "n9", "--reason", "x"], desk)
