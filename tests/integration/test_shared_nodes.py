"""Nodes of shared clusters over the twin: vNode is fitted before one goes, guests leave first, and a theft is told."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from libs.common.events.capacity import CapacityDrifted, NodeJoined, NodeLost, NodeReleased, NodeReplaced
from libs.common.events.envelope import Envelope
from libs.common.ids import EventId
from services.capacity_manager.core.pools import POOL, PoolRules
from services.capacity_manager.core.replacing import ReplaceNode
from services.capacity_manager.core.vnode import Image, Sandboxes
from tests.integration.test_tenancy import ROOT, Provider

SHARED = "sc-l40s-shared-eu-1"
SANDBOXED = "sc-l40s-sandboxed-eu-1"
RULES = PoolRules(confirm_gone_ms=1_000, grace_ms=4_000)


def order(provider: Provider, pool: str, node: str) -> None:
    asked = ReplaceNode(node=node, reason="driver 570", actor="operator:jane")
    envelope = Envelope(EventId(f"replace {node}"), asked, subject=pool, time_ms=provider.clock.now_ms())
    provider.service.runner(POOL).take(pool, envelope)


def the_node_of(provider: Provider, pool: str) -> str:
    """Once its pool has told of it."""

    def found() -> list[str]:
        joined = [each for each in provider.told() if isinstance(each.data, NodeJoined) and each.subject == pool]
        return [each.data.claim for each in joined if isinstance(each.data, NodeJoined)]

    provider.until(lambda: bool(found()))
    return found()[0]


def is_cordoned(provider: Provider, cluster: str, node: str) -> bool:
    answer = provider.ask("GET", f"/kubernetes/project/mr-pool/virtualcluster/{cluster}/api/v1/nodes/{node}")
    return bool(answer.json()["spec"].get("unschedulable"))


@pytest.mark.parametrize(
    ("image", "code"), [(Image("5.15", "2.0"), "VNodeKernelTooOld"), (Image(), "VNodeImageUnknown"), (None, "")]
)
def test_before_a_node_of_a_sandboxed_tier_is_cordoned_what_comes_next_must_fit(
    tmp_path: Path, image: Image | None, code: str
) -> None:
    said = {"millrace-sandbox-l40s@1.0.0": image or Image("6.8", "2.0")}
    rules = replace(RULES, sandboxes=Sandboxes(frozenset({"l40s-sandboxed"}), said))
    provider = Provider(tmp_path / "key", pools=rules)
    provider.request("ep-a", "l40s-sandboxed", "acme")
    provider.held("ep-a")
    node = the_node_of(provider, SANDBOXED)
    provider.world.set_faults({"capacity": {"terraform.gpu-l40s": 1}})

    order(provider, SANDBOXED, node)
    provider.until(lambda: any(isinstance(each.data, NodeReplaced) for each in provider.told()))

    (ended,) = [each.data for each in provider.told() if isinstance(each.data, NodeReplaced)]
    stands = node in [each["name"] for each in provider.inventory()["nodes"]]
    assert (ended.outcome, ended.message.partition(":")[0], stands) == (
        ("refused", code, True) if code else ("replaced", "", False)
    )
    assert not (stands and is_cordoned(provider, SANDBOXED, node))


def test_nodes_that_people_joined_leave_a_shared_cluster_before_it_goes(tmp_path: Path) -> None:
    provider = Provider(tmp_path / "key", pools=RULES)
    provider.request("ep-a", "l40s-shared", "acme")
    provider.held("ep-a")
    provider.world.machines.join(("mr-pool", SHARED), "desk-7", gpus=1)

    provider.delete("ep-a", "acme")
    provider.until(lambda: provider.inventory()["clusters"] == [])

    assert provider.world.machines.dialing == set(), "its kubelet would dial a control plane that is gone"


def test_a_shared_cluster_that_another_hand_deletes_is_told_its_time_ends_and_it_is_made_again(tmp_path: Path) -> None:
    provider = Provider(tmp_path / "key", pools=RULES)
    provider.request("ep-a", "l40s-shared", "acme")
    provider.held("ep-a")
    node = the_node_of(provider, SHARED)
    taken_ms = provider.clock.now_ms()

    assert provider.ask("DELETE", f"{ROOT}/namespaces/p-mr-pool/virtualclusterinstances/{SHARED}").status_code == 200
    provider.until(lambda: any(isinstance(each.data, NodeReleased) for each in provider.told()))
    provider.until(lambda: [each["ready"] for each in provider.inventory()["nodes"]] == [True])

    (drift,) = [each for each in provider.told() if isinstance(each.data, CapacityDrifted)]
    (loss,) = [each.data for each in provider.told() if isinstance(each.data, NodeLost)]
    (end,) = [each.data for each in provider.told() if isinstance(each.data, NodeReleased)]
    assert drift.subject == SHARED
    assert (loss.claim, end.claim) == (node, node)
    assert taken_ms <= loss.at_ms == end.at_ms <= provider.clock.now_ms()


def test_a_pool_is_taken_in_by_whoever_shares_it_also_while_no_survey_succeeds(tmp_path: Path) -> None:
    provider = Provider(tmp_path / "key", pools=RULES)
    provider.service.reconcilers[0]._survey = None  # As if each one failed.
    provider.request("ep-a", "l40s-shared", "acme")

    provider.held("ep-a")

    pool = provider.service.runner(POOL).state(SHARED)
    assert pool is not None
    assert (pool.project, pool.tier) == ("mr-pool", "l40s-shared")
