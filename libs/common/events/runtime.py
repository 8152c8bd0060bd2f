"""Events owned by runtime-deployer: what runs for an endpoint, and how far its model is."""

from __future__ import annotations

from typing import ClassVar, Final

from pydantic import Field

from libs.common.events.event import Contract, Event, Owner
from libs.common.events.facts import Fact

TO_API: Final = frozenset({Owner.ENDPOINT_API})
TO_API_AND_ROUTER: Final = frozenset({Owner.ENDPOINT_API, Owner.ROUTER})


class Replica(Contract):
    """One running copy of the model server."""

    name: str = Field(description="The pod's name.")
    url: str = Field(description="Where the router reaches it, `http://<address>:<port>`.")
    model: str = Field(default="", description="The only name it answers to; empty: that of the route.")
    adapters: tuple[str, ...] = Field(
        default=(), description="Adapters that it has loaded; clients name one as `<endpoint>/<adapter>`."
    )
    weight: int = Field(
        default=100, ge=0, le=10_000, description="Its share of requests beside the other replicas: a canary has less."
    )
    zone: str = Field(default="", description="Failure zone of its node; routers prefer their own.")


class ImagePulled(Event):
    """Every image of the first replica is on its node."""

    kind: ClassVar[str] = "runtime.image_pulled"
    owner: ClassVar[Owner] = Owner.RUNTIME_DEPLOYER
    consumers: ClassVar[frozenset[Owner]] = TO_API
    fact: ClassVar[Fact | None] = Fact.IMAGE_PULLED


class ModelDownloaded(Event):
    """The weights are on the node and their digest is right."""

    kind: ClassVar[str] = "runtime.model_downloaded"
    owner: ClassVar[Owner] = Owner.RUNTIME_DEPLOYER
    consumers: ClassVar[frozenset[Owner]] = TO_API
    fact: ClassVar[Fact | None] = Fact.MODEL_DOWNLOADED

    bytes_fetched: int | None = Field(
        default=None,
        ge=0,
        description="What came from the model's source; 0: all of it was on the volume. Null: the fetch does not say.",
    )


class ModelProgressed(Event):
    """More of the weights is on a replica's volume; told in steps of a twentieth while they are downloaded."""

    kind: ClassVar[str] = "runtime.model_progressed"
    owner: ClassVar[Owner] = Owner.RUNTIME_DEPLOYER
    consumers: ClassVar[frozenset[Owner]] = TO_API

    bytes_done: int = Field(ge=0, description="Of the replica that is furthest.")
    bytes_total: int = Field(ge=1)


class ModelLoaded(Event):
    """The engine says that it is healthy: the model is in GPU memory."""

    kind: ClassVar[str] = "runtime.model_loaded"
    owner: ClassVar[Owner] = Owner.RUNTIME_DEPLOYER
    consumers: ClassVar[frozenset[Owner]] = TO_API
    fact: ClassVar[Fact | None] = Fact.MODEL_LOADED


class CacheWarmed(Event):
    """A real request was answered by the replicas listed: traffic may come."""

    kind: ClassVar[str] = "runtime.cache_warmed"
    owner: ClassVar[Owner] = Owner.RUNTIME_DEPLOYER
    consumers: ClassVar[frozenset[Owner]] = TO_API_AND_ROUTER
    fact: ClassVar[Fact | None] = Fact.CACHE_WARMED

    replicas: tuple[Replica, ...]


class ReplicasChanged(Event):
    """The set of replicas that may take traffic changed; it replaces the one before, by the owner's sequence."""

    kind: ClassVar[str] = "runtime.replicas_changed"
    owner: ClassVar[Owner] = Owner.RUNTIME_DEPLOYER
    consumers: ClassVar[frozenset[Owner]] = frozenset(
        {Owner.ENDPOINT_API, Owner.ROUTER, Owner.AUTOSCALER, Owner.CAPACITY_MANAGER, Owner.METERING}
    )

    desired: int
    ready: int
    replicas: tuple[Replica, ...]
    warmed_generation: int = Field(
        default=0,
        description="The newest generation whose runtime is warm: what it asks for may be routed; 0: not said.",
    )
    replacing: bool = Field(
        default=False,
        description="A rollout is on its way: requests that find no replica are to be held until one is there.",
    )


class VolumeChanged(Event):
    """The endpoint's own volume has so many bytes from now on; 0: it is gone."""

    kind: ClassVar[str] = "runtime.volume_changed"
    owner: ClassVar[Owner] = Owner.RUNTIME_DEPLOYER
    consumers: ClassVar[frozenset[Owner]] = frozenset({Owner.METERING})

    capacity_bytes: int = Field(ge=0)


class RuntimeDegraded(Event):
    """No replica is ready, though some were: requests are refused until one is back."""

    kind: ClassVar[str] = "runtime.degraded"
    owner: ClassVar[Owner] = Owner.RUNTIME_DEPLOYER
    consumers: ClassVar[frozenset[Owner]] = TO_API
    fact: ClassVar[Fact | None] = Fact.RUNTIME_DEGRADED

    reason: str
    message: str


class RuntimeRecovered(Event):
    """A replica is ready again."""

    kind: ClassVar[str] = "runtime.recovered"
    owner: ClassVar[Owner] = Owner.RUNTIME_DEPLOYER
    consumers: ClassVar[frozenset[Owner]] = TO_API
    fact: ClassVar[Fact | None] = Fact.RUNTIME_DEGRADED
    holds: ClassVar[bool] = False


class RuntimeFailed(Event):
    """No waiting will help: the image, the digest or the command is wrong."""

    kind: ClassVar[str] = "runtime.failed"
    owner: ClassVar[Owner] = Owner.RUNTIME_DEPLOYER
    consumers: ClassVar[frozenset[Owner]] = TO_API
    fact: ClassVar[Fact | None] = Fact.RUNTIME_FAILED

    reason: str = Field(description="ImagePullBackOff, CrashLoopBackOff, OOMKilled, TemplateUnknown, …")
    message: str


class RuntimeRemoved(Event):
    """No object of the endpoint is left in the tenant cluster: capacity may go."""

    kind: ClassVar[str] = "runtime.removed"
    owner: ClassVar[Owner] = Owner.RUNTIME_DEPLOYER
    consumers: ClassVar[frozenset[Owner]] = frozenset({Owner.ENDPOINT_API, Owner.CAPACITY_MANAGER})
    fact: ClassVar[Fact | None] = Fact.RUNTIME_REMOVED
