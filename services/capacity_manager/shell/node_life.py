"""``python -m services.capacity_manager <verb>``: list nodes, replace them. What `millrace nodes` runs.

A replacement is written into the service's own record, as an event that its journal keeps; the service that runs does
the rest. One JSON object on standard output.
"""

from __future__ import annotations

import argparse
import getpass
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from libs.common.clock import Clock
from libs.common.errors import NotFound
from libs.common.events.envelope import Envelope
from libs.common.events.event import Internal
from libs.common.ids import event_id
from libs.common.runner import Runner
from services.capacity_manager.core.node_list import node_rows
from services.capacity_manager.core.node_time import live
from services.capacity_manager.core.pools import Pool
from services.capacity_manager.core.replacing import ReplaceNode, asked
from services.capacity_manager.core.rolling import RollCluster, rolled
from services.capacity_manager.core.state import LIVE, Claim


@dataclass(frozen=True, slots=True)
class Desk:
    """What an operator works on: the records of the service."""

    claims: Runner[Claim]
    pools: Runner[Pool]
    clock: Clock

    def order(self, claim: Claim, order: Internal) -> Claim:
        """Write an order into a claim; what becomes of it. Raises Rejected."""
        now_ms = self.clock.now_ms()
        cause = event_id(f"claim|{claim.id}|{now_ms}", order.model_dump_json(), 0)
        return self.claims.take(claim.id, Envelope(cause, order, subject=claim.id, time_ms=now_ms))


def operate(argv: Sequence[str], desk: Desk) -> int:
    """Print what there is, or what was asked for. Raises MillraceError for what can't be done."""
    asked_for = _parser().parse_args(argv)
    sys.stdout.write(json.dumps(_done(desk, asked_for), indent=2) + "\n")
    return 0


def listed(desk: Desk) -> list[dict[str, Any]]:
    """Every node that is held."""
    return [asdict(each) for each in node_rows(desk.claims.every(scope=LIVE), desk.pools.every(scope=LIVE))]


def replace(desk: Desk, order: ReplaceNode, *, is_dry: bool) -> dict[str, Any]:
    """Ask for another machine in place of a node; dry, say only whether that could be. Raises Rejected."""
    claim = _holder(desk.claims, order.node)
    after = asked(claim, order, desk.clock.now_ms())[0] if is_dry else desk.order(claim, order)
    ahead = next(place for place, each in enumerate(after.replacements) if each.node == order.node)
    return {"node": order.node, "endpoint_id": claim.id, "reason": order.reason, "ahead": ahead, "dry_run": is_dry}


def roll(desk: Desk, tier: str, order: RollCluster, *, is_dry: bool) -> dict[str, Any]:
    """Ask for another template version of the endpoints' own clusters of a tier. Raises Rejected: nobody was asked."""
    every = desk.claims.every(scope=LIVE)
    found = [each for each in every if each.spec and each.spec.tier == tier and not each.is_unwanted]
    if not found:
        raise NotFound(f"no endpoint of tier {tier} has a cluster; see `millrace tiers`")
    for each in found:
        rolled(each, order)
    for each in () if is_dry else found:
        desk.order(each, order)
    return {
        "template": order.template,
        "endpoints": [each.id for each in found],
        "nodes": sum(len(live(each.nodes)) for each in found),
        "dry_run": is_dry,
    }


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="capacity-manager", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("list")
    replacing = verbs.add_parser("replace")
    replacing.add_argument("node")
    rolling = verbs.add_parser("roll")
    rolling.add_argument("tier")
    rolling.add_argument("template")
    for each in (replacing, rolling):
        each.add_argument("--reason", required=True)
        each.add_argument("--dry-run", action="store_true")
    return parser


def _done(desk: Desk, asked_for: argparse.Namespace) -> dict[str, Any]:
    actor = f"operator:{getpass.getuser()}"
    match asked_for.verb:
        case "replace":
            order = ReplaceNode(node=asked_for.node, reason=asked_for.reason, actor=actor)
            return replace(desk, order, is_dry=asked_for.dry_run)
        case "roll":
            new = RollCluster(template=asked_for.template, reason=asked_for.reason, actor=actor)
            return roll(desk, asked_for.tier, new, is_dry=asked_for.dry_run)
        case _:
            return {"nodes": listed(desk)}


def _holder(claims: Runner[Claim], node: str) -> Claim:
    for each in claims.every(scope=LIVE):
        if any(one.name == node for one in live(each.nodes)):
            return each
    raise NotFound(f"no endpoint's own cluster has a node {node}; see `millrace nodes list`")
