"""What a look into the tenant cluster showed. Nothing in it changes while nothing happens: no times, no versions."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, ClassVar, Final

from pydantic import Field

from libs.common.events.event import Contract, Internal, Owner

FETCH: Final = "model-fetch"  # The init container that brings the weights and checks their digest.
HOLD: Final = "model-hold"  # The sidecar that keeps the weights from being evicted while the pod is there.
ENGINE: Final = "engine"  # The container that serves.
KSERVE_ENGINE: Final = "kserve-container"  # What KServe wants it to be called.


class Kind(StrEnum):
    """The kinds of object that we keep in a tenant cluster, in the order in which they are made."""

    NAMESPACE = "Namespace"
    SERVICE_ACCOUNT = "ServiceAccount"
    VOLUME_CLAIM = "PersistentVolumeClaim"
    GPU_CLAIM = "ResourceClaimTemplate"
    NETWORK_POLICY = "NetworkPolicy"
    SERVICE = "Service"
    DISRUPTION_BUDGET = "PodDisruptionBudget"
    MONITOR = "ServiceMonitor"
    POD_MONITOR = "PodMonitor"
    INFERENCE_SERVICE = "InferenceService"
    DEPLOYMENT = "Deployment"


# Only where a template asks for it; of each, a runtime remembers that it once was (`Runtime.extras`).
EXTRA: Final = frozenset({Kind.VOLUME_CLAIM, Kind.GPU_CLAIM, Kind.MONITOR, Kind.POD_MONITOR, Kind.INFERENCE_SERVICE})
# What belongs to one endpoint alone, whatever its template.
OWNED: Final = tuple(each for each in Kind if each is not Kind.NAMESPACE and each not in EXTRA)
WORKLOADS: Final = frozenset({Kind.INFERENCE_SERVICE, Kind.DEPLOYMENT})


class ContainerState(StrEnum):
    """The three states that Kubernetes knows."""

    WAITING = "waiting"
    RUNNING = "running"
    TERMINATED = "terminated"


class ContainerSeen(Contract):
    """One container of a pod. `reason`, `message` and `exit_code` speak of the last end, if there was one."""

    name: str
    image: str
    state: ContainerState = ContainerState.WAITING
    waiting: str = ""  # Why it waits, where Kubernetes says so.
    restarts: int = 0
    exit_code: int | None = None
    reason: str = ""
    message: str = ""

    @property
    def has_started(self) -> bool:
        """Whether its image is on the node: it runs, or ran."""
        return self.state is not ContainerState.WAITING or self.exit_code is not None

    @property
    def is_done(self) -> bool:
        """Whether it ended well."""
        return self.state is ContainerState.TERMINATED and self.exit_code == 0


class AdapterSeen(Contract):
    """An adapter that an engine says it has loaded, and where it has it from."""

    name: str
    source: str


class CacheListed(Contract):
    """What a fetch that ended well says of the cache it brought its model to, or found it in.

    `at_ms` grows from one fetch on a cache to the next; `models` are all in it by digest, but for `left_out`.
    """

    digest: str
    is_hit: bool
    at_ms: int
    models: Mapping[str, Annotated[int, Field(ge=0)]]
    left_out: int = 0


class FetchSeen(Contract):
    """How far a fetch says it is, in steps, so that a look is not another one for every byte.

    `bytes_fetched`, once it ended well: what came from the source. The rest was on the volume.
    """

    bytes_done: int
    bytes_total: int
    bytes_fetched: int | None = None
    listed: CacheListed | None = None


class PodSeen(Contract):
    """One pod of the endpoint. `ready` is Kubernetes' word; `warmed`: it answered a real request since it started.

    `recipe` says from which text it was made, `model` which model it serves: while an endpoint changes, pods differ.
    """

    name: str
    uid: str
    recipe: str = ""
    model: str = ""
    port: int = 0
    ip: str = ""
    node: str = ""
    ready: bool = False
    terminating: bool = False
    warmed: bool = False
    unschedulable: str = ""
    init: tuple[ContainerSeen, ...] = ()
    containers: tuple[ContainerSeen, ...] = ()
    adapters: tuple[AdapterSeen, ...] = ()
    fetched: FetchSeen | None = None
    claim: str = ""  # Where its models are, if that outlives it: a claim, or a directory of its node.
    node_path: str = ""

    @property
    def engine(self) -> ContainerSeen | None:
        """The container that serves; None while Kubernetes does not speak of it."""
        return next((each for each in self.containers if each.name in (ENGINE, KSERVE_ENGINE)), None)

    @property
    def fetch(self) -> ContainerSeen | None:
        """The init container that brings the model."""
        return next((each for each in self.init if each.name == FETCH), None)

    @property
    def warm_key(self) -> str:
        """This start of this pod: a restarted engine is cold again."""
        return f"{self.uid}/{self.engine.restarts if self.engine else 0}"


class ObjectSeen(Contract):
    """One object of ours: for which generation and from which content it was applied.

    `refused` is why the cluster lets it have no pod more, where it says so; `storage_bytes` is the size of a volume.
    """

    kind: Kind
    generation: int
    digest: str
    replicas: int | None = None
    deleting: bool = False
    refused: str = ""
    storage_bytes: int | None = None


class Observed(Internal):
    """Everything of one endpoint that its tenant cluster holds.

    `removing` repeats what the look was for: only a look made while removing proves that nothing is left. Of a kind
    that is not in `looked` nothing is known.
    """

    kind: ClassVar[str] = "internal.runtime_observed"
    owner: ClassVar[Owner] = Owner.RUNTIME_DEPLOYER

    removing: bool
    looked: tuple[Kind, ...] = OWNED
    objects: tuple[ObjectSeen, ...] = ()
    pods: tuple[PodSeen, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing is there."""
        return not self.objects and not self.pods

    @property
    def generation(self) -> int:
        """The newest generation that anything there was applied for."""
        return max((each.generation for each in self.objects), default=0)

    def has(self, kind: Kind) -> ObjectSeen | None:
        """The object of that kind; None if it is not there."""
        return next((each for each in self.objects if each.kind is kind), None)
