"""A runtime template: a versioned recipe that an operator writes, and what follows from a model's size."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from pydantic import JsonValue

from libs.common.units import GIB

GPU_RESOURCE: Final = "nvidia.com/gpu"
PROBE_PERIOD_S: Final = 5  # How often a starting engine is asked; bounds how late a loaded model is noticed.
LOAD_SLACK: Final = 2  # Twice the expected time before a start counts as hung: disks and links are shared.
DISK_SLACK_GIB: Final = 10  # Compiled kernels, logs and a partial file beside the finished weights.


class Workload(StrEnum):
    """Who makes the pods, and so who owns what hangs from them: one owner per workload, route and autoscaler."""

    DEPLOYMENT = "deployment"  # We write the Deployment and the Service.
    INFERENCE_SERVICE = "inference_service"  # KServe writes both; we write its InferenceService (Standard mode).


@dataclass(frozen=True, slots=True)
class VolumeClaim:
    """A volume of the endpoint's own that keeps the weights when pods come and go; all replicas read it."""

    storage_gib: int
    storage_class: str = ""  # Empty: the cluster's own choice.
    access_mode: str = "ReadWriteMany"  # ReadWriteOnce holds for as long as all replicas are on one node.


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """What models may stay where the next replica finds them: on its node, or on the template's claim.

    A fetch that needs room takes away what was used longest ago, and nothing that a pod has mounted or that is to be
    kept. Needs native sidecars (Kubernetes 1.29), and the fetch image of this repository.
    """

    capacity_gib: int
    node_path: str = ""  # A directory of each node, for all endpoints there; user 65532 must be able to write it.
    keep: tuple[str, ...] = ()  # Digests of models that are never evicted.


@dataclass(frozen=True, slots=True)
class Toleration:
    """A taint of GPU nodes that the pods accept, whatever its value."""

    key: str
    effect: str = "NoSchedule"


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """How a model is served. Words in braces ({model}, {name}, {digest}, {size_bytes}, {host}, {port}) are filled in.

    A published version never changes: an endpoint keeps the text that it was created with, and a change is a new
    version.
    """

    name: str
    version: str
    fetch_image: str
    fetch_args: tuple[str, ...]
    engine_image: str
    engine_args: tuple[str, ...]
    engine_command: tuple[str, ...] = ()  # Empty: the image's own entry point.
    adapter_args: tuple[str, ...] | None = (
        None  # More of them where a model takes adapters; None: as before there were.
    )
    port: int = 8000
    health_path: str = "/health"
    gpu_resource: str = GPU_RESOURCE  # Or a MIG profile's, such as nvidia.com/mig-3g.40gb.
    cpu_per_gpu: int = 8
    memory_gib_per_gpu: int = 64
    shared_memory_gib: int = 8  # /dev/shm: tensor parallel workers pass activations through it.
    load_mib_per_s: int = 200  # Slowest disk-to-GPU rate that still counts as healthy.
    download_mib_per_s: int = 50  # Slowest download that still counts as healthy.
    start_s: int = 60  # Interpreter, CUDA context and warm-up of an engine with an empty model.
    drain_s: int = 120  # Longest generation sold is 90 s; the rest is slack for routers.
    unroute_s: int = 6  # From the order to stop to the signal: our look every 5 s, and a second for routers to hear.
    ingress_cidrs: tuple[str, ...] = ("0.0.0.0/0",)
    egress_ports: tuple[int, ...] = (443,)
    tolerations: tuple[Toleration, ...] = (Toleration("nvidia.com/gpu"),)
    node_selector: Mapping[str, str] = field(default_factory=dict, hash=False)  # A mapping has none; == looks at it.
    workload: Workload = Workload.DEPLOYMENT
    metrics_path: str = ""  # Where Prometheus finds its metrics; empty: nobody is told to look.
    device_class: str = ""  # GPUs by a DRA claim for this DeviceClass, instead of by `gpu_resource`.
    claim: VolumeClaim | None = None  # None: each pod has its own disk, and downloads anew.
    cache: CachePolicy | None = None  # None: nothing is evicted, so a claim can get full.
    pull_secret: str = ""  # A Secret in the endpoint's namespace for the images' registry.
    model_secret: str = ""  # A Secret there whose entries the fetch gets as environment.
    engine_env: Mapping[str, str] = field(default_factory=dict, hash=False)
    pod: Mapping[str, JsonValue] = field(default_factory=dict, hash=False)  # More of the pod, as Kubernetes names it.

    @property
    def key(self) -> str:
        """``<name>@<version>``, as tiers name it."""
        return f"{self.name}@{self.version}"

    def load_s(self, model_size_bytes: int) -> int:
        """Seconds in which an engine must be healthy once its weights are on the node."""
        return self.start_s + math.ceil(model_size_bytes / (self.load_mib_per_s << 20))

    def download_s(self, model_size_bytes: int) -> int:
        """Seconds in which the weights must be on the node."""
        return math.ceil(model_size_bytes / (self.download_mib_per_s << 20))

    def startup_failures(self, model_size_bytes: int) -> int:
        """How many startup probes may fail before the engine is restarted."""
        return math.ceil(LOAD_SLACK * self.load_s(model_size_bytes) / PROBE_PERIOD_S)

    def startup_s(self, model_size_bytes: int) -> int:
        """Seconds after which an engine that is not healthy is restarted: what the startup probes add up to."""
        return self.startup_failures(model_size_bytes) * PROBE_PERIOD_S

    def disk_gib(self, model_size_bytes: int) -> int:
        """Local disk that one replica needs."""
        return math.ceil(model_size_bytes / GIB) + DISK_SLACK_GIB
