"""What the pods of an endpoint say of the caches that they use: news for those caches, and which ones to remember."""

from __future__ import annotations

from collections.abc import Mapping

from libs.common.events.caches import CacheKind, CachePlace
from libs.common.units import GIB
from services.runtime_deployer.core.caches import CACHES_MAX, CacheUsed, Fetched, key_of
from services.runtime_deployer.core.observed import Observed, PodSeen
from services.runtime_deployer.core.state import Cluster, Runtime


def news_for_caches(runtime: Runtime, observed: Observed) -> Mapping[str, CacheUsed]:
    """What a look at an endpoint means for caches, by their key: nothing for those that it uses as it did before."""
    before, now = _uses(runtime, runtime.seen), _uses(runtime, observed)
    changed = {key: used for key, used in now.items() if before.get(key) != used}
    left = {key: used.model_copy(update={"fetches": ()}) for key, used in before.items() if key not in now}
    news = {**left, **changed}
    if not is_over(observed):
        return news
    places = {**{key_of(each): each for each in runtime.caches}, **{key: used.place for key, used in news.items()}}
    return {key: CacheUsed(endpoint_id=runtime.endpoint_id, place=place, is_over=True) for key, place in places.items()}


def remembered(runtime: Runtime, observed: Observed) -> tuple[CachePlace, ...]:
    """The caches that an endpoint has used; none once all of it is gone."""
    if is_over(observed):
        return ()
    new = {key: used.place for key, used in _uses(runtime, observed).items()}
    if not new:
        return runtime.caches
    known = {key_of(each): each for each in runtime.caches}
    return tuple({**known, **new}.values())[-CACHES_MAX:]


def is_over(observed: Observed) -> bool:
    """Whether a look made for a removal found nothing any more."""
    return observed.removing and observed.is_empty


def _uses(runtime: Runtime, observed: Observed | None) -> dict[str, CacheUsed]:
    found: dict[str, CacheUsed] = {}
    cluster = runtime.cluster
    if observed is None or cluster is None:
        return found
    policy = runtime.template.cache if runtime.template is not None else None
    for pod in observed.pods:
        place = _place(cluster, pod)
        listed = pod.fetched.listed if pod.fetched is not None else None
        if place is None or pod.fetched is None or listed is None:
            continue
        fetched = Fetched(pod=pod.uid, bytes_fetched=pod.fetched.bytes_fetched, listed=listed)
        used = found.setdefault(
            key_of(place),
            CacheUsed(
                endpoint_id=runtime.endpoint_id,
                place=place,
                capacity_bytes=policy.capacity_gib * GIB if policy is not None else 0,
            ),
        )
        found[key_of(place)] = used.model_copy(update={"fetches": (*used.fetches, fetched)})
    return found


def _place(cluster: Cluster, pod: PodSeen) -> CachePlace | None:
    """The cache that a pod has its model in; None if its models go with it."""
    if not pod.claim and not (pod.node_path and pod.node):
        return None
    return CachePlace(
        kind=CacheKind.VOLUME if pod.claim else CacheKind.NODE,
        platform_project=cluster.platform_project,
        cluster=cluster.name,
        name=pod.claim or pod.node,
        path="" if pod.claim else pod.node_path,
    )
