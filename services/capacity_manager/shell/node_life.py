"""``python -m services.capacity_manager <verb>``: list nodes, replace them. What `millrace nodes` runs.

A replacement is written into the service's own record, as an event that its journal keeps; the service that runs does
the rest. One JSON object on standard output.
"""

from __future__ import annotations

import argparse
import getpass
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from libs.common.clock import Clock
from libs.common.errors import NotFound, Rejected
from libs.common.events.envelope import Envelope
from libs.common.events.event import Internal
from libs.common.ids import event_id
from libs.common.runner import Runner
from services.capacity_manager.core.node_list import node_rows
from services.capacity_manager.core.node_time import live
from services.capacity_manager.core.pool_life import why_refused
from services.capacity_manager.core.pools import Pool, PoolRules, PoolSeen
from services.capacity_manager.core.replacing import ReplaceNode, asked
from services.capacity_manager.core.rolling import RollCluster, rolled
from services.capacity_manager.core.state import LIVE, Claim
from services.capacity_manager.core.tenancy import is_shared


@dataclass(frozen=True, slots=True)
class Desk:
    """What an operator works on: the records of the service, and a look at a shared cluster."""

    claims: Runner[Claim]
    pools: Runner[Pool]
    clock: Clock
    rules: PoolRules
    look: Callable[[Pool], PoolSeen]

    def order(self, holder: Claim | Pool, order: Internal) -> Claim | Pool:
        """Write an order into a record; what becomes of it. Raises Rejected."""
        now_ms = self.clock.now_ms()
        runner: Runner[Any] = self.pools if isinstance(holder, Pool) else self.claims
        cause = event_id(f"{runner.owned.kind}|{holder.id}|{now_ms}", order.model_dump_json(), 0)
        done: Claim | Pool = runner.take(holder.id, Envelope(cause, order, subject=holder.id, time_ms=now_ms))
        return done

    def insist_that_it_fits(self, pool: Pool) -> None:
        """Raise Rejected, with what to do, if pods in sandboxes could not move when the pool's first node is replaced.

        Raises Unavailable if that can't be seen.
        """
        if pool.tier not in self.rules.sandboxes.tiers or not pool.replacements:
            return
        why = why_refused(pool, self.look(pool), self.rules)
        if why is not None:
            raise Rejected(str(why), code=why.code)


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
    holder = _holder(desk, order.node)
    after = _after(desk, holder, order)
    if not is_dry:
        after = desk.order(holder, order)
    ahead = next(place for place, each in enumerate(after.replacements) if each.node == order.node)
    return {"node": order.node, "holder": holder.id, "reason": order.reason, "ahead": ahead, "dry_run": is_dry}


def roll(desk: Desk, tier: str, order: RollCluster, *, is_dry: bool) -> dict[str, Any]:
    """Ask for another template version of the clusters of a tier. Raises Rejected: then nobody was asked."""
    found = _clusters(desk, tier)
    if not found:
        raise NotFound(f"no endpoint of tier {tier} has a cluster; see `millrace tiers`")
    for each in found:
        _insist_on_roll(desk, each, order)
    for each in () if is_dry else found:
        desk.order(each, order)
    return {
        "template": order.template,
        "clusters": [each.id for each in found],
        "nodes": sum(len(live(each.nodes)) for each in found),
        "dry_run": is_dry,
    }


def _after(desk: Desk, holder: Claim | Pool, order: ReplaceNode) -> Claim | Pool:
    """The holder as it would be. Raises Rejected if it can't be."""
    after, _ = asked(holder, order, desk.clock.now_ms())
    if isinstance(after, Pool):
        desk.insist_that_it_fits(after)
    return after


def _insist_on_roll(desk: Desk, holder: Claim | Pool, order: RollCluster) -> None:
    after, _ = rolled(holder, order)
    joined = [each for each in live(after.nodes) if each.is_told]
    if joined and isinstance(after, Pool):
        first = ReplaceNode(node=joined[0].name, reason=order.reason, actor=order.actor)
        _after(desk, after, first)


def _clusters(desk: Desk, tier: str) -> list[Claim | Pool]:
    """Those of a tier: each is a pool's, or an endpoint's own."""
    pools = [each for each in desk.pools.every(scope=LIVE) if each.tier == tier and not each.is_released]
    every = desk.claims.every(scope=LIVE)
    claims = [each for each in every if each.spec and each.spec.tier == tier and not each.is_unwanted]
    return [*pools, *(each for each in claims if not (pools and is_shared(each.placement)))]


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


def _holder(desk: Desk, node: str) -> Claim | Pool:
    every: tuple[Claim | Pool, ...] = (*desk.claims.every(scope=LIVE), *desk.pools.every(scope=LIVE))
    for each in every:
        if any(one.name == node for one in live(each.nodes)):
            return each
    raise NotFound(f"nobody holds a node {node}; see `millrace nodes list`")
