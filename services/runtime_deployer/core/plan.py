"""What to do next in the tenant cluster: what is wanted against what was seen.

Idempotent and level-triggered. A change of the number of replicas is an apply like any other, so that there is one
way to write an object. Where something newer than we are was at work, nothing is done.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from libs.common.units import MINUTE_MS
from services.runtime_deployer.core import adapters
from services.runtime_deployer.core.lifecycle import Stage, stage_of
from services.runtime_deployer.core.manifests import Manifest, render, workload_of
from services.runtime_deployer.core.observed import OWNED, Kind, Observed
from services.runtime_deployer.core.state import Cluster, Runtime
from services.runtime_deployer.core.warming import surface_of

FORCE_AFTER_MS: Final = 10 * MINUTE_MS  # Past every grace period: the node is dead and will never confirm the end.
# The Deployment is made last and deleted first: while it is there and only its pods move, the rest need no look.
IN_MOTION: Final = frozenset({Stage.PULLING, Stage.DOWNLOADING, Stage.LOADING, Stage.WARMING})
UP: Final = frozenset(
    {
        Stage.INSTALLING,
        Stage.PULLING,
        Stage.DOWNLOADING,
        Stage.LOADING,
        Stage.WARMING,
        Stage.SERVING,
        Stage.DEGRADED,
    }
)


@dataclass(frozen=True, slots=True)
class Apply:
    """Make an object as the manifest says, unless something newer was applied there."""

    cluster: Cluster
    manifest: Manifest


@dataclass(frozen=True, slots=True)
class WarmUp:
    """Send one real request to a pod (`core/warming.py`); `key` is the start of the pod that it counts for."""

    cluster: Cluster
    pod: str
    port: int
    model: str
    key: str
    surface: str = "chat"


@dataclass(frozen=True, slots=True)
class ChangeAdapter:
    """Have the engine of a pod load an adapter, or let go of one."""

    cluster: Cluster
    pod: str
    port: int
    change: adapters.Change


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete an object and what hangs from it."""

    cluster: Cluster
    kind: Kind
    name: str


@dataclass(frozen=True, slots=True)
class ForceDeletePod:
    """Forget a pod whose node will never confirm that it ended."""

    cluster: Cluster
    name: str


@dataclass(frozen=True, slots=True)
class Check:
    """Have the cluster judge objects without making one: all of them, before the first of them is there."""

    cluster: Cluster
    manifests: tuple[Manifest, ...]


Action = Check | Apply | WarmUp | ChangeAdapter | Delete | ForceDeletePod


def looks_at(runtime: Runtime) -> tuple[Kind, ...]:
    """The kinds of object that are worth a look now; pods always are."""
    if stage_of(runtime) in IN_MOTION:
        return (workload_of(runtime.template),)
    return tuple(each for each in Kind if each in OWNED or each in runtime.extras)


def plan(runtime: Runtime, observed: Observed, now_ms: int) -> tuple[Action, ...]:
    """The actions that bring the cluster closer to what is wanted; none if nothing is to be done, or not by us."""
    if runtime.cluster is None or observed.generation > runtime.generation:
        return ()
    stage = stage_of(runtime)
    if stage is Stage.REMOVING:
        return _removal(runtime, runtime.cluster, observed, now_ms)
    if stage in UP:
        return (
            *_applies(runtime, runtime.cluster, observed),
            *_warm_ups(runtime, runtime.cluster, observed),
            *_adapters(runtime, runtime.cluster, observed, now_ms),
        )
    return ()


def _applies(runtime: Runtime, cluster: Cluster, observed: Observed) -> tuple[Action, ...]:
    if runtime.template is None or runtime.placement is None:
        return ()
    shared, *owned = render(runtime, runtime.template)
    wrong = tuple(each for each in owned if _differs(each, observed, runtime.replicas_wanted))
    kept = {each.kind for each in owned}
    stale = tuple(
        Delete(cluster, each.kind, runtime.endpoint_id)
        for each in reversed(observed.objects)
        if each.kind not in kept and not each.deleting
    )
    if not wrong:
        return stale
    checked = (Check(cluster, wrong),) if _is_new(runtime, observed) else ()
    return (Apply(cluster, shared), *checked, *stale, *(Apply(cluster, each) for each in wrong))


def _is_new(runtime: Runtime, observed: Observed) -> bool:
    """Whether pods of this recipe would be the first: what nobody has tried yet is judged before it is applied."""
    return all(each.recipe != runtime.recipe for each in observed.pods)


def _differs(manifest: Manifest, observed: Observed, replicas: int) -> bool:
    if manifest.kind not in observed.looked:
        return False
    seen = observed.has(manifest.kind)
    if seen is not None and seen.deleting:
        return False  # What is applied to it goes with it: made anew when it is gone.
    if seen is None or seen.digest != manifest.digest:
        return True
    return seen.replicas is not None and seen.replicas != replicas


def _warm_ups(runtime: Runtime, cluster: Cluster, observed: Observed) -> tuple[WarmUp, ...]:
    surface = surface_of(runtime.placement.surfaces if runtime.placement else ())
    return tuple(
        WarmUp(cluster, each.name, each.port, each.model or runtime.served_name, each.warm_key, surface)
        for each in observed.pods
        if each.ready and not each.terminating and each.warm_key not in runtime.warmed
    )


def _adapters(runtime: Runtime, cluster: Cluster, observed: Observed, now_ms: int) -> tuple[ChangeAdapter, ...]:
    """Only pods of the recipe that is wanted: the others go, and keep what they have until then."""
    if not runtime.asks_for_adapters:
        return ()
    may_unload = now_ms - runtime.adapters_since_ms >= adapters.UNLOAD_AFTER_MS
    return tuple(
        ChangeAdapter(cluster, each.name, each.port, change)
        for each in observed.pods
        if each.ready and not each.terminating and each.recipe == runtime.recipe
        for change in adapters.changes(each, runtime.adapters, may_unload=may_unload)
    )


def _removal(runtime: Runtime, cluster: Cluster, observed: Observed, now_ms: int) -> tuple[Action, ...]:
    """The Deployment first: what it left standing for a moment could still be reached, what it runs could not."""
    present = [each for each in reversed(observed.objects) if not each.deleting]
    actions: list[Action] = [Delete(cluster, each.kind, runtime.endpoint_id) for each in present]
    if now_ms - runtime.removing_since_ms >= FORCE_AFTER_MS:
        actions += [ForceDeletePod(cluster, each.name) for each in observed.pods]
    return tuple(actions)
