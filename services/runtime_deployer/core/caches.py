"""A cache of models on a node or a claim: what is in it, for whom, who uses it; from what fetches in it list.

What a fetch lists is the truth of its moment, and the newest list counts. That nobody told of a change in between does
no harm: what is told is how the one list differs from the other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import ClassVar, Final

from libs.common.decision import Decision
from libs.common.events.caches import (
    CacheKind,
    CachePlace,
    Eviction,
    ModelEvicted,
    ModelHit,
    ModelReleased,
    ModelWarmed,
)
from libs.common.events.envelope import Envelope
from libs.common.events.event import Contract, Event, Internal, Owner
from libs.common.ids import short_id
from libs.common.reconciler import Delayed, Refused
from libs.common.store.port import Attention
from services.runtime_deployer.core.observed import CacheListed
from services.runtime_deployer.core.weights import label_of

CACHE: Final = "cache"  # What its record is called in the store.
THERE: Final = "there"  # Its scope in the store, for as long as its node or claim is.
GONE: Final = "gone"
CACHES_MAX: Final = 256  # That one endpoint remembers to have used; older ones went with their nodes.


class Fetched(Contract):
    """What the fetch of a pod said when it ended well."""

    pod: str
    bytes_fetched: int | None = None
    listed: CacheListed


class CacheUsed(Internal):
    """All pods of an endpoint that have a model of this cache; `is_over`: it is gone, and has none any more."""

    kind: ClassVar[str] = "internal.cache_used"
    owner: ClassVar[Owner] = Owner.RUNTIME_DEPLOYER

    endpoint_id: str
    place: CachePlace
    capacity_bytes: int = 0
    fetches: tuple[Fetched, ...] = ()
    is_over: bool = False


class CacheSeen(Internal):
    """Whether its node or claim is there, and since when; a newer one by the same name has nothing of what was."""

    kind: ClassVar[str] = "internal.cache_seen"
    owner: ClassVar[Owner] = Owner.RUNTIME_DEPLOYER

    is_there: bool
    created_ms: int = 0
    labels: tuple[str, ...] = ()  # Of those that say which models a node has.


@dataclass(frozen=True, slots=True)
class Label:
    """Set these labels of a node, and take away those that are None, so that pods prefer it as they should."""

    place: CachePlace
    labels: Mapping[str, str | None]


@dataclass(frozen=True, slots=True)
class Model:
    """A model in a cache; `endpoint_id`: for whom it is kept, empty: for nobody."""

    digest: str
    size_bytes: int
    used_ms: int
    endpoint_id: str = ""
    hits: int = 0


@dataclass(frozen=True, slots=True)
class User:
    """A pod that has a model of the cache, by the fetch that it began with."""

    endpoint_id: str
    pod: str
    at_ms: int
    digest: str


@dataclass(frozen=True, slots=True)
class Cache:
    """A cache: `listed_ms` is of the newest list, by the cache's own clock; `heard_ms`, by ours, when one last came."""

    key: str
    place: CachePlace | None = None
    capacity_bytes: int = 0
    models: tuple[Model, ...] = ()
    users: tuple[User, ...] = ()
    listed_ms: int = 0
    heard_ms: int = 0
    hits: int = 0
    misses: int = 0
    evictions: int = 0
    is_gone: bool = False
    delay: str = ""

    def model(self, digest: str) -> Model | None:
        """The model, if it is there."""
        return next((each for each in self.models if each.digest == digest), None)


_Telling = tuple[Cache, tuple[Event, ...]]


def key_of(place: CachePlace) -> str:
    """The name of a cache in the store and on the bus."""
    return short_id("cache", place.platform_project, place.cluster, place.kind, place.name, place.path)


def scope_of(cache: Cache) -> str:
    """Under what it is listed in the store."""
    return GONE if cache.is_gone else THERE


def attention_of(cache: Cache) -> Attention:
    """Looked at for as long as its node or claim is there."""
    return Attention.NONE if cache.is_gone or cache.place is None else Attention.WATCH


def plan(cache: Cache, seen: CacheSeen, _now_ms: int) -> tuple[Label, ...]:
    """Label a node by the models that it has. Nothing is ever deleted in a cache from here: fetches evict."""
    if cache.place is None or cache.place.kind is not CacheKind.NODE or not seen.is_there:
        return ()
    wanted = {label_of(each.digest) for each in cache.models}
    added, gone = wanted - {*seen.labels}, {*seen.labels} - wanted
    changes = {**dict.fromkeys(sorted(added), "true"), **dict.fromkeys(sorted(gone))}
    return (Label(cache.place, changes),) if changes else ()


def decide(cache: Cache, envelope: Envelope, now_ms: int) -> Decision[Cache]:
    """Take in who uses it, or whether it is there, and tell what is in it that was not, or no longer."""
    match envelope.data:
        case CacheUsed() as used:
            cache, events = _used(cache, used, now_ms)
        case CacheSeen() as seen:
            cache, events = _seen(cache, seen)
        case Delayed() | Refused() as trouble:
            cache, events = replace(cache, delay=f"{trouble.code}: {trouble.message}"), ()
        case _:
            raise AssertionError(f"a cache does not hear {envelope.type}")
    return Decision(cache, events=events)


def _used(cache: Cache, used: CacheUsed, now_ms: int) -> _Telling:
    cache = replace(cache, place=used.place, capacity_bytes=used.capacity_bytes or cache.capacity_bytes)
    known = {(each.pod, each.at_ms) for each in cache.users}
    new = [each for each in used.fetches if (each.pod, each.listed.at_ms) not in known]
    events: tuple[Event, ...] = ()
    for each in sorted(new, key=lambda each: each.listed.at_ms):
        cache, more = _fetched(replace(cache, heard_ms=now_ms, is_gone=False), used.endpoint_id, each)
        events += more
    others = tuple(each for each in cache.users if each.endpoint_id != used.endpoint_id)
    theirs = (User(used.endpoint_id, each.pod, each.listed.at_ms, each.listed.digest) for each in used.fetches)
    cache = replace(cache, users=(*others, *theirs))
    if not used.is_over:
        return cache, events
    cache, released = _released(cache, used.endpoint_id)
    return cache, (*events, *released)


def _fetched(cache: Cache, endpoint_id: str, fetched: Fetched) -> _Telling:
    """A fetch ended: what its list has that was not known, or lacks, and whether it was a hit itself."""
    listed = fetched.listed
    events: tuple[Event, ...] = ()
    is_newest = listed.at_ms > cache.listed_ms
    if is_newest:
        cache, events = _compared(cache, listed)
    model, place = cache.model(listed.digest), _place(cache)
    size_bytes = listed.models.get(listed.digest, model.size_bytes if model is not None else 0)
    if listed.is_hit:
        known = model or (Model(listed.digest, size_bytes, listed.at_ms) if is_newest else None)
        is_for_none = known is not None and not known.endpoint_id
        hit = ModelHit(
            cache=place,
            model_digest=listed.digest,
            size_bytes=size_bytes,
            endpoint_id=endpoint_id,
            kept_for=endpoint_id if is_for_none else "",
        )
        cache = replace(cache, hits=cache.hits + 1)
        return _with(cache, _again(known, listed, endpoint_id) if known is not None else None), (*events, hit)
    cache = replace(cache, misses=cache.misses + 1)
    if model is None and not is_newest:
        return cache, events  # It came, and went before we looked.
    if model is not None and model.endpoint_id and is_newest:
        events += (_evicted(place, model, Eviction.ROOM),)  # It was taken away and brought again between two looks.
    holder = model.endpoint_id if model is not None and not is_newest and model.endpoint_id else endpoint_id
    warmed = ModelWarmed(
        cache=place,
        model_digest=listed.digest,
        size_bytes=size_bytes,
        endpoint_id=holder,
        bytes_fetched=fetched.bytes_fetched,
    )
    return _with(cache, Model(listed.digest, size_bytes, listed.at_ms, holder)), (*events, warmed)


def _compared(cache: Cache, listed: CacheListed) -> _Telling:
    """The cache as a newer list has it; the fetch's own model is told of by what the fetch did."""
    place = _place(cache)
    gone = () if listed.left_out else tuple(each for each in cache.models if each.digest not in listed.models)
    found = tuple(
        Model(digest, size_bytes, listed.at_ms)
        for digest, size_bytes in sorted(listed.models.items())
        if digest != listed.digest and cache.model(digest) is None
    )
    cache = replace(
        cache,
        models=(*(each for each in cache.models if each not in gone), *found),
        listed_ms=listed.at_ms,
        evictions=cache.evictions + len(gone),
    )
    return cache, (
        *(_evicted(place, each, Eviction.ROOM) for each in gone),
        *(
            ModelWarmed(cache=place, model_digest=each.digest, size_bytes=each.size_bytes, endpoint_id="")
            for each in found
        ),
    )


def _again(model: Model, listed: CacheListed, endpoint_id: str) -> Model:
    used_ms = max(model.used_ms, listed.at_ms)
    return replace(model, endpoint_id=model.endpoint_id or endpoint_id, hits=model.hits + 1, used_ms=used_ms)


def _with(cache: Cache, model: Model | None) -> Cache:
    if model is None:
        return cache
    others = (each for each in cache.models if each.digest != model.digest)
    return replace(cache, models=tuple(sorted((*others, model), key=lambda each: each.digest)))


def _released(cache: Cache, endpoint_id: str) -> _Telling:
    place = _place(cache)
    held = [each for each in cache.models if each.endpoint_id == endpoint_id]
    models = tuple(replace(each, endpoint_id="") if each in held else each for each in cache.models)
    return replace(cache, models=models), tuple(
        ModelReleased(cache=place, model_digest=each.digest, size_bytes=each.size_bytes, endpoint_id=endpoint_id)
        for each in held
    )


def _seen(cache: Cache, seen: CacheSeen) -> _Telling:
    cache = replace(cache, delay="")
    if seen.is_there and seen.created_ms <= cache.heard_ms:
        return cache, ()
    gone = tuple(_evicted(_place(cache), each, Eviction.GONE) for each in cache.models)
    users = cache.users if seen.is_there else ()
    return replace(cache, models=(), users=users, is_gone=not seen.is_there), gone


def _evicted(place: CachePlace, model: Model, reason: Eviction) -> ModelEvicted:
    return ModelEvicted(
        cache=place,
        model_digest=model.digest,
        size_bytes=model.size_bytes,
        endpoint_id=model.endpoint_id,
        reason=reason,
    )


def _place(cache: Cache) -> CachePlace:
    assert cache.place is not None, cache.key
    return cache.place
