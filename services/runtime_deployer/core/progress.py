"""How far a runtime is, read from what was seen: the steps of its model, and the replicas that may take traffic."""

from __future__ import annotations

from typing import Final

from libs.common.events.facts import Fact
from libs.common.events.runtime import Replica
from services.runtime_deployer.core.adapters import has_all, offered
from services.runtime_deployer.core.manifests import workload_of
from services.runtime_deployer.core.observed import FetchSeen, PodSeen
from services.runtime_deployer.core.state import Runtime

STEPS: Final = (Fact.IMAGE_PULLED, Fact.MODEL_DOWNLOADED, Fact.MODEL_LOADED, Fact.CACHE_WARMED)


def steps_reached(runtime: Runtime) -> tuple[Fact, ...]:
    """The steps that the furthest replica of what is wanted has behind it, in order.

    None before the cluster was told of it; and not the last while an older recipe still has a pod, or a replica that
    serves lacks an adapter.
    """
    if not is_installed(runtime):
        return ()
    reached = max((_reached(each, runtime) for each in pods_of(runtime)), default=0)
    is_whole = is_rolled(runtime) and have_converged(runtime)
    return STEPS[:reached] if is_whole else STEPS[: min(reached, len(STEPS) - 1)]


def is_installed(runtime: Runtime) -> bool:
    """Whether the workload was seen as the present generation wants it, and staying."""
    workload = runtime.seen.has(workload_of(runtime.template)) if runtime.seen is not None else None
    return workload is not None and workload.generation == runtime.generation and not workload.deleting


def pods_of(runtime: Runtime) -> tuple[PodSeen, ...]:
    """The pods made as is wanted now that are not on their way out: pods of an older recipe prove nothing."""
    recipe = runtime.recipe
    return tuple(each for each in _staying(runtime) if recipe and each.recipe == recipe)


def is_rolled(runtime: Runtime) -> bool:
    """Whether no pod of another recipe stays."""
    recipe = runtime.recipe
    return all(each.recipe == recipe for each in _staying(runtime))


def have_converged(runtime: Runtime) -> bool:
    """Whether each replica that takes traffic has all adapters loaded."""
    return all(has_all(each, runtime.adapters) for each in _staying(runtime) if may_serve(each, runtime))


def _staying(runtime: Runtime) -> tuple[PodSeen, ...]:
    pods = runtime.seen.pods if runtime.seen is not None else ()
    return tuple(each for each in pods if not each.terminating)


def may_serve(pod: PodSeen, runtime: Runtime) -> bool:
    """Whether traffic may go to this pod: ready, staying, and answered a real request since its engine started.

    And it has the adapters that clients know of: a restarted engine has none.
    """
    is_warm = pod.ready and not pod.terminating and bool(pod.ip) and pod.warm_key in runtime.warmed
    return is_warm and has_all(pod, runtime.adapters_needed)


def replicas_of(runtime: Runtime) -> tuple[Replica, ...]:
    """The replicas that may take traffic, of whatever recipe, by name; each says which model it answers for."""
    serving = (each for each in _staying(runtime) if may_serve(each, runtime))
    named = (
        Replica(
            name=each.name,
            url=_url(each.ip, each.port),
            model=each.model,
            adapters=offered(each, runtime.adapters),
        )
        for each in serving
    )
    return tuple(sorted(named, key=lambda each: each.name))


def fetched_of(runtime: Runtime) -> FetchSeen | None:
    """How far the furthest replica of what is wanted is with its download; None if none says so."""
    said = [each.fetched for each in pods_of(runtime) if each.fetched is not None]
    return max(said, key=lambda each: each.bytes_done, default=None)


def _reached(pod: PodSeen, runtime: Runtime) -> int:
    """How many of `STEPS` a pod has behind it; a later step includes the earlier ones."""
    if may_serve(pod, runtime):
        return 4
    if pod.ready:
        return 3
    if pod.fetch is not None and pod.fetch.is_done:
        return 2
    everything = (*pod.init, *pod.containers)
    started = {each.image for each in everything if each.has_started}
    return 1 if everything and started >= {each.image for each in everything} else 0


def _url(ip: str, port: int) -> str:
    return f"http://[{ip}]:{port}" if ":" in ip else f"http://{ip}:{port}"
