"""How far a runtime is, read from what was seen: the steps of its model, and the replicas that may take traffic."""

from __future__ import annotations

from typing import Final

from libs.common.events.facts import Fact
from libs.common.events.runtime import Replica
from services.runtime_deployer.core.observed import PodSeen
from services.runtime_deployer.core.state import Runtime

STEPS: Final = (Fact.IMAGE_PULLED, Fact.MODEL_DOWNLOADED, Fact.MODEL_LOADED, Fact.CACHE_WARMED)


def steps_reached(runtime: Runtime) -> tuple[Fact, ...]:
    """The steps that the furthest replica of the present generation has behind it, in order."""
    reached = max((_reached(each, runtime) for each in pods_of(runtime)), default=0)
    return STEPS[:reached]


def pods_of(runtime: Runtime) -> tuple[PodSeen, ...]:
    """The pods of the present generation that are not on their way out."""
    pods = runtime.seen.pods if runtime.seen is not None else ()
    return tuple(each for each in pods if each.generation == runtime.generation and not each.terminating)


def may_serve(pod: PodSeen, runtime: Runtime) -> bool:
    """Whether traffic may go to this pod: ready, staying, and answered a real request since its engine started."""
    return pod.ready and not pod.terminating and bool(pod.ip) and pod.warm_key in runtime.warmed


def replicas_of(runtime: Runtime) -> tuple[Replica, ...]:
    """The replicas that may take traffic, of whatever generation, by name."""
    if runtime.seen is None or runtime.template is None:
        return ()
    port = runtime.template.port
    serving = (each for each in runtime.seen.pods if may_serve(each, runtime))
    return tuple(sorted((Replica(name=each.name, url=_url(each.ip, port)) for each in serving), key=lambda r: r.name))


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
