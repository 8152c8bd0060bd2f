"""Every node that is held, by whom, how it is, and which of them is to be replaced: for operators."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from services.capacity_manager.core.node_time import live
from services.capacity_manager.core.pools import Pool
from services.capacity_manager.core.state import Claim, Machines, Node, Replacement, Step


@dataclass(frozen=True, slots=True)
class NodeRow:
    """One node. `holder` is an endpoint, or the cluster of a pool; `since_ms` is when it joined."""

    node: str
    holder: str
    tenant_id: str
    node_type: str
    gpus: int
    state: str
    why: str
    since_ms: int | None


def node_rows(claims: Iterable[Claim], pools: Iterable[Pool]) -> tuple[NodeRow, ...]:
    """All of them: by holder, then by name."""
    return tuple(sorted((*_owned(claims), *_pooled(pools)), key=lambda each: (each.holder, each.node)))


def _owned(claims: Iterable[Claim]) -> Iterator[NodeRow]:
    for claim in claims:
        jobs = {each.node: each for each in claim.replacements}
        for node in live(claim.nodes):
            state, why = _state(node, jobs.get(node.name))
            yield _row(node, claim.machines, holder=claim.id, tenant=claim.tenant_id, state=state, why=why)


def _pooled(pools: Iterable[Pool]) -> Iterator[NodeRow]:
    for pool in pools:
        jobs = {each.node: each for each in pool.replacements}
        for node in live(pool.nodes):
            state, why = _state(node, jobs.get(node.name))
            yield _row(node, pool.machines, holder=pool.cluster, tenant=pool.tenant_id, state=state, why=why)


def _row(node: Node, machines: Machines | None, *, holder: str, tenant: str, state: str, why: str) -> NodeRow:
    return NodeRow(
        node=node.name,
        holder=holder,
        tenant_id=tenant,
        node_type=machines.node_type if machines else "",
        gpus=machines.gpus_per_node if machines else 0,
        state=state,
        why=why,
        since_ms=node.joined_at_ms,
    )


def _state(node: Node, job: Replacement | None) -> tuple[str, str]:
    if node.lost_at_ms is not None:
        return "lost", "another one is on its way"
    if job is not None:
        waits = " (another one comes first)" if job.step is Step.PREPARING and job.surges else ""
        return f"to be replaced: {job.step}{waits}", job.reason
    if node.joined_at_ms is None:
        return "joining", ""
    if node.missing is not None or node.silent is not None:
        return "not answering", ""
    return node.use or "serving", "the Platform calls it drifted" if node.is_drifted else ""
