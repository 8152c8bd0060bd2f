"""Events owned by endpoint-api: what was asked, the composed status, operations and keys."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar, Final

from pydantic import Field, model_validator

from libs.common.events.event import Contract, Event, Owner
from libs.common.events.facts import Fact

EVERYBODY: Final = frozenset(Owner) - {Owner.ENDPOINT_API}

ADAPTER_RANK_MAX: Final = 512  # The largest that vLLM has kernels for; a model in the catalogue says less.
ADAPTERS_MAX: Final = (
    64  # Of one endpoint, whatever its model takes: each is a name that every replica must have loaded.
)
LABEL: Final = "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
HOSTNAME: Final = rf"({LABEL}\.)+[a-z]([a-z0-9-]{{0,61}}[a-z0-9])?"  # No address: the last label begins with a letter.
REPLICAS_MAX: Final = 64  # Largest fleet one endpoint may ask for; a typo must not claim a data centre.


class Stage(StrEnum):
    """Where an endpoint stands, in the customer's words."""

    REQUESTED = "requested"
    WAITING_FOR_CAPACITY = "waiting_for_capacity"
    PROVISIONING_CLUSTER = "provisioning_cluster"
    JOINING_NODES = "joining_nodes"
    PREPARING_GPU = "preparing_gpu"
    PULLING_IMAGE = "pulling_image"
    DOWNLOADING_MODEL = "downloading_model"
    LOADING_MODEL = "loading_model"
    WARMING_CACHE = "warming_cache"
    PUBLISHING_ROUTE = "publishing_route"
    READY = "ready"
    DEGRADED = "degraded"
    UPDATING = "updating"
    PAUSING = "pausing"
    PAUSED = "paused"
    DRAINING = "draining"
    DELETING = "deleting"
    DELETED = "deleted"
    FAILED = "failed"


class Scaling(Contract):
    """How many replicas may run, and how busy one should be."""

    min: int = Field(default=1, ge=1, le=REPLICAS_MAX, description="Fewest replicas, always running.")
    max: int = Field(default=1, ge=1, le=REPLICAS_MAX, description="Most replicas ever.")
    target_concurrency: int = Field(
        default=8, ge=1, le=1024, description="Requests in flight that one replica should carry."
    )
    idle_to_zero_s: int | None = Field(
        default=None,
        ge=30,
        le=7 * 24 * 3600,
        description="Seconds without a request after which no replica runs; the first request is held and wakes `min`. "
        "Null: `min` always run.",
    )

    @model_validator(mode="after")
    def _ordered(self) -> Scaling:
        if self.min > self.max:
            raise ValueError(f"scaling.min is {self.min} but scaling.max is {self.max}: raise max or lower min")
        return self


class Limits(Contract):
    """What an endpoint takes at most, whoever asks; left out, only the quotas of the project and tenant hold."""

    requests_per_minute: int | None = Field(default=None, ge=1, le=1_000_000)
    tokens_per_minute: int | None = Field(default=None, ge=1, le=1_000_000_000, description="Prompt and completion.")
    concurrency: int | None = Field(default=None, ge=1, le=100_000, description="Requests at once, waiting ones too.")


class Adapter(Contract):
    """A LoRA adapter beside the model; clients name it as `<endpoint>/<adapter>`."""

    name: str = Field(pattern=r"^[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?$", description="1 to 40 of a-z, 0-9 and '-'.")
    source: str = Field(
        pattern=r"^[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*/[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*$",
        max_length=200,
        description="Where the engine finds it: `<owner>/<repository>` of a model hub.",
    )
    rank: int = Field(ge=1, le=ADAPTER_RANK_MAX, description="Its rank, as its own configuration says.")


class EndpointSpec(Contract):
    """What the tenant asks for."""

    model: str = Field(description="Id of a model in the catalogue.")
    tier: str = Field(description="Name of a tier in the catalogue.")
    region: str = Field(description="A region in which the tier is sold.")
    scaling: Scaling = Scaling()
    template: str = Field(default="", description="Runtime recipe, `<name>@<version>`; empty: the tier's newest.")
    limits: Limits = Limits()
    adapters: tuple[Adapter, ...] = Field(
        default=(), max_length=ADAPTERS_MAX, description="Adapters that every replica loads beside the model."
    )
    hostname: str = Field(
        default="",
        max_length=253,
        pattern=rf"^({HOSTNAME})?$",
        description="A host name of the tenant's own that its clients call, below a domain that it has verified; "
        "empty: none.",
    )


class NodeChoice(Contract):
    """A class of nodes that an endpoint may have: its type, how it is made, and where."""

    node_type: str = Field(description="Full vCluster Platform node type name, `<provider>.<type>`.")
    gpus_per_node: int = Field(ge=1)
    cluster_template: str = Field(description="Platform VirtualClusterTemplate, `<name>@<version>`.")
    region: str = Field(default="", description="Where its nodes are; empty: where the endpoint was asked for.")


class Placement(Contract):
    """What the catalogue says of the tier and model, pinned when the endpoint was accepted."""

    tenancy: str = Field(description="tenant_cluster, private_nodes, shared_pool or vnode.")
    node_type: str = Field(description="Full vCluster Platform node type name, `<provider>.<type>`.")
    gpus_per_node: int = Field(ge=1)
    gpus_per_replica: int = Field(ge=1)
    cluster_template: str = Field(description="Platform VirtualClusterTemplate, `<name>@<version>`.")
    runtime_template: str = Field(description="Runtime recipe, `<name>@<version>`.")
    model_digest: str = Field(description="sha256 of the model's manifest.")
    model_size_bytes: int = Field(ge=0)
    price_class: str
    command: tuple[str, ...] = Field(
        default=(), description="Engine command of the tier; empty means the template's own."
    )
    surfaces: tuple[str, ...] = Field(
        default=(),
        description="OpenAI calls that the model answers: chat, completions, responses, embeddings, speech, "
        "transcriptions; empty: chat and completions.",
    )
    adapters_max: int = Field(default=0, ge=0, description="How many adapters an engine of it makes room for.")
    adapter_rank_max: int = Field(default=0, ge=0, description="The largest rank that they may have.")
    region: str = Field(default="", description="Where its nodes are; empty: where the endpoint was asked for.")
    interrupted: str = Field(
        default="delivered",
        description="What is billed of a stream that is cut short: delivered (what its client was sent), or generated "
        "(what the engine said it had generated by then).",
    )
    fallbacks: tuple[NodeChoice, ...] = Field(
        default=(), description="Classes of nodes to have instead, in this order, while there is no room before."
    )


class EndpointRequested(Event):
    """A tenant asked for this endpoint and it was accepted: make it so.

    Told again with a higher generation for every change of the spec, and to bring back what was paused or failed. Of
    this, a pause, a failure and a deletion, the highest generation is what is wanted; a deletion is for ever.
    """

    kind: ClassVar[str] = "endpoint.requested"
    owner: ClassVar[Owner] = Owner.ENDPOINT_API
    consumers: ClassVar[frozenset[Owner]] = EVERYBODY
    fact: ClassVar[Fact | None] = Fact.REQUESTED

    tenant_id: str
    project_id: str
    name: str
    spec: EndpointSpec
    placement: Placement
    rollout_paused: bool = Field(
        default=False, description="Replace no further replica until a request without this; those there are serve on."
    )


class EndpointDeletionRequested(Event):
    """The tenant wants it gone: router, runtime, then capacity; each answers even if it holds nothing."""

    kind: ClassVar[str] = "endpoint.deletion_requested"
    owner: ClassVar[Owner] = Owner.ENDPOINT_API
    consumers: ClassVar[frozenset[Owner]] = EVERYBODY
    fact: ClassVar[Fact | None] = Fact.DELETION_REQUESTED

    tenant_id: str
    project_id: str
    drain_deadline_ms: int = Field(description="Milliseconds that live streams may still run after the route is gone.")


class EndpointPauseRequested(Event):
    """The tenant wants it kept but not running: give back everything, in the order of a delete, until asked anew."""

    kind: ClassVar[str] = "endpoint.pause_requested"
    owner: ClassVar[Owner] = Owner.ENDPOINT_API
    consumers: ClassVar[frozenset[Owner]] = EVERYBODY
    fact: ClassVar[Fact | None] = Fact.PAUSE_REQUESTED

    tenant_id: str
    project_id: str
    drain_deadline_ms: int = Field(description="Milliseconds that live streams may still run after the route is gone.")


class EndpointFailed(Event):
    """The endpoint can't become ready; what it holds is given back, in the same order as on a delete."""

    kind: ClassVar[str] = "endpoint.failed"
    owner: ClassVar[Owner] = Owner.ENDPOINT_API
    consumers: ClassVar[frozenset[Owner]] = EVERYBODY
    fact: ClassVar[Fact | None] = Fact.ENDPOINT_FAILED

    tenant_id: str
    project_id: str
    reason: str
    message: str


class EndpointStageChanged(Event):
    """The composed status moved to another stage."""

    kind: ClassVar[str] = "endpoint.stage_changed"
    owner: ClassVar[Owner] = Owner.ENDPOINT_API
    consumers: ClassVar[frozenset[Owner]] = frozenset({Owner.METERING, Owner.AUTOSCALER})

    tenant_id: str
    project_id: str
    name: str
    stage: Stage
    previous: Stage
    since_ms: int
    waiting_on: str = Field(default="", description="The service that owes the next fact; empty if nobody does.")
    deadline_ms: int | None = Field(default=None, description="When the wait fails, epoch milliseconds.")
    reason: str = ""
    message: str = ""
    previous_ms: int | None = Field(default=None, ge=0, description="Milliseconds spent in `previous` this time.")
    model: str | None = Field(default=None, description="The model asked for, by catalogue id.")
    tier: str | None = Field(default=None, description="The tier that it runs in.")


class OperationFinished(Event):
    """An accepted command came to its one end."""

    kind: ClassVar[str] = "operation.finished"
    owner: ClassVar[Owner] = Owner.ENDPOINT_API

    tenant_id: str
    operation_id: str
    verb: str
    outcome: str = Field(description="succeeded, failed, superseded, cancelled or rolled_back.")
    message: str = ""


class KeyCreated(Event):
    """A key exists; routers hear of it through the `keys` bucket."""

    kind: ClassVar[str] = "key.created"
    owner: ClassVar[Owner] = Owner.ENDPOINT_API

    tenant_id: str
    project_id: str
    key_id: str
    scopes: tuple[str, ...]


class KeyRotated(Event):
    """A key has a successor, told as created in the same commit, and is refused from `old_expires_at_ms` on."""

    kind: ClassVar[str] = "key.rotated"
    owner: ClassVar[Owner] = Owner.ENDPOINT_API

    tenant_id: str
    project_id: str
    key_id: str
    successor_id: str
    old_expires_at_ms: int


class KeyRevoked(Event):
    """A key is refused from now on."""

    kind: ClassVar[str] = "key.revoked"
    owner: ClassVar[Owner] = Owner.ENDPOINT_API

    tenant_id: str
    project_id: str
    key_id: str
