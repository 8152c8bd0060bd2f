"""Events of runtime-deployer about caches of models: what is where, for whom, and that it is there no longer.

A cache is a directory of a node, or the volume of an endpoint's claim. The subject is the cache; its owner's sequence
orders what is told of it. (`runtime.cache_warmed` is another thing: a replica answered a first request.)
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Final

from pydantic import Field

from libs.common.events.event import Contract, Event, Owner

TO_METERING: Final = frozenset({Owner.METERING})


class CacheKind(StrEnum):
    """Where a cache is."""

    NODE = "node"
    VOLUME = "volume"


class CachePlace(Contract):
    """Where a cache is."""

    kind: CacheKind
    platform_project: str
    cluster: str
    name: str = Field(description="Of the node, or of the volume's claim.")
    path: str = Field(default="", description="The directory on the node.")


class Eviction(StrEnum):
    """Why a model is in a cache no longer."""

    ROOM = "room"  # Another one came.
    GONE = "gone"  # The node or the volume went, with all that was on it.


class ModelWarmed(Event):
    """A model is in a cache: whole, verified, and there for the next replica on that node or volume."""

    kind: ClassVar[str] = "cache.warmed"
    owner: ClassVar[Owner] = Owner.RUNTIME_DEPLOYER
    consumers: ClassVar[frozenset[Owner]] = TO_METERING

    cache: CachePlace
    model_digest: str
    size_bytes: int = Field(ge=0)
    endpoint_id: str = Field(
        description="Whose replica brought it; it is kept for that endpoint from now on. Empty: nobody saw whose."
    )
    bytes_fetched: int | None = Field(
        default=None, ge=0, description="What came from the model's source: less than all where a download went on."
    )


class ModelHit(Event):
    """A replica began with a model that its cache had: nothing was downloaded."""

    kind: ClassVar[str] = "cache.hit"
    owner: ClassVar[Owner] = Owner.RUNTIME_DEPLOYER
    consumers: ClassVar[frozenset[Owner]] = TO_METERING

    cache: CachePlace
    model_digest: str
    size_bytes: int = Field(ge=0, description="What did not have to come again.")
    endpoint_id: str = Field(description="Whose replica.")
    kept_for: str = Field(
        default="", description="The endpoint that it is kept for from now on; empty: for whom it was kept before."
    )


class ModelReleased(Event):
    """The endpoint that a cached model was kept for is gone. The model stays, for nobody, until a replica hits it."""

    kind: ClassVar[str] = "cache.released"
    owner: ClassVar[Owner] = Owner.RUNTIME_DEPLOYER
    consumers: ClassVar[frozenset[Owner]] = TO_METERING

    cache: CachePlace
    model_digest: str
    size_bytes: int = Field(ge=0)
    endpoint_id: str


class ModelEvicted(Event):
    """A model is in a cache no longer."""

    kind: ClassVar[str] = "cache.evicted"
    owner: ClassVar[Owner] = Owner.RUNTIME_DEPLOYER
    consumers: ClassVar[frozenset[Owner]] = TO_METERING

    cache: CachePlace
    model_digest: str
    size_bytes: int = Field(ge=0)
    endpoint_id: str = Field(description="The endpoint that it was kept for; empty: for none.")
    reason: Eviction
