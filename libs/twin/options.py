"""How the simulated world behaves: durations in milliseconds of a world at real speed, all scaled by one number."""

from __future__ import annotations

from typing import Final, Literal

from pydantic import BaseModel, ConfigDict, Field

from libs.common.units import MIB, MINUTE_MS, SECOND_MS

DEFAULT_KEY: Final = "twin-access-key"


class NodeTypeOption(BaseModel):
    """One kind of node that a provider can make."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(description="`<provider>.<type>`")
    gpus: int = Field(ge=1)
    product: str = Field(description="As the GPU stack labels it, nvidia.com/gpu.product.")
    capacity: int = Field(ge=0, description="Nodes that exist.")
    cpus: int = 96
    memory_gib: int = 768
    regions: tuple[str, ...] = ("eu-1", "us-1")
    properties: dict[str, str] = Field(default_factory=dict, description="More of them: rack, reservation, zone.")


NODE_TYPES: Final = (
    NodeTypeOption(name="metal3.gpu-h100", gpus=8, product="NVIDIA-H100-80GB-HBM3", capacity=4),
    NodeTypeOption(name="terraform.gpu-l40s", gpus=1, product="NVIDIA-L40S", capacity=16, cpus=16, memory_gib=128),
)


FEATURES: Final = (
    "metal3",
    "private-nodes-auto-nodes",
    "private-nodes-vpn",
    "project-quotas",
    "scheduled-snapshots",
    "template-versioning",
    "vclusters",
    "vcp-distro-embedded-etcd",
    "vcp-distro-private-nodes",
    "vnode-runtime",
)
"""The licence features that concern us, by their names in the Platform's own list."""


class Faults(BaseModel):
    """Trouble on order; each can be changed while the world runs."""

    model_config = ConfigDict(extra="forbid", validate_assignment=True)

    unavailable_calls: int = Field(default=0, ge=0, description="How many of the next calls answer 503.")
    throttled_calls: int = Field(default=0, ge=0, description="How many of the next calls answer 429.")
    unauthorized_calls: int = Field(default=0, ge=0, description="How many of the next calls find the key expired.")
    no_capacity: bool = Field(default=False, description="No node type has a free node.")
    capacity: dict[str, int] = Field(default_factory=dict, description="Nodes that exist now, by node type.")
    failing_claims: int = Field(default=0, ge=0, description="How many of the next claims fail to provision.")
    lost_nodes: int = Field(default=0, ge=0, description="How many joined nodes die, those that came first first.")
    silent_nodes: int = Field(
        default=0, ge=0, description="How many joined nodes stop answering while their claims stand as before."
    )
    drifted_nodes: int = Field(
        default=0, ge=0, description="How many joined nodes are found to be not what their pool would make today."
    )
    boot_factor: float = Field(default=1.0, ge=0, description="Makes clusters and nodes boot slower.")
    delete_factor: float = Field(default=1.0, ge=0, description="Makes clusters and nodes go slower.")
    ignored_deletes: int = Field(
        default=0, ge=0, description="How many of the next deletes on the Platform are accepted and never happen."
    )
    early_404_ms: int = Field(
        default=0, ge=0, description="For so long after its delete, what is still there is said to be gone."
    )
    stale_list_ms: int = Field(default=0, ge=0, description="Lists of the Platform are this old; a get is not.")
    digest_mismatch: bool = Field(default=False, description="Every model fetched has the wrong digest.")
    failing_pulls: bool = Field(default=False, description="No image can be pulled.")
    unauthorized_pulls: bool = Field(default=False, description="The registry refuses every pull with 401.")
    unlicensed: tuple[str, ...] = Field(default=(), description="Features that the licence has no longer.")
    answers: Literal["", "html", "redirect", "half", "types", "nameless"] = Field(
        default="", description="How the management API answers instead of as it should."
    )


class TwinOptions(BaseModel):
    """Everything that can be turned. Durations are those of the real world; `time_scale` shortens all of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    access_keys: tuple[str, ...] = (DEFAULT_KEY,)
    user: str = "inference-automation"
    loft_host: str = "platform.twin.local"
    features: tuple[str, ...] = FEATURES  # Of FEATURES, those that the licence has.
    plan: str = "twin"
    forbidden: tuple[str, ...] = ()  # What the key may not do: "create projects", "* nodetypes".
    kubernetes_version: str = "v1.36.5"
    seed: int = 0  # Varies pod addresses, uids and made-up names: two twins stay apart, and so do two lives of one.
    time_scale: float = Field(default=1.0, ge=0)
    node_types: tuple[NodeTypeOption, ...] = NODE_TYPES
    images: tuple[str, ...] = ("millrace/model-server", "millrace/model-fetch")  # Repositories that can be pulled.
    quota_denial_code: int = 422  # Not established for the real Platform; 403 is the other candidate.

    project_ms: int = 200
    cluster_boot_ms: int = 60 * SECOND_MS
    cluster_delete_ms: int = 20 * SECOND_MS
    node_boot_ms: int = 5 * MINUTE_MS
    node_delete_ms: int = 30 * SECOND_MS
    gpu_ready_ms: int = 90 * SECOND_MS  # From join until the GPU stack lets the node offer its GPUs.
    claim_retry_ms: int = 30 * SECOND_MS  # How long a failed claim stays before its pool replaces it.
    sandbox_ms: int = 500
    image_pull_ms: int = 60 * SECOND_MS
    fetch_image_pull_ms: int = 3 * SECOND_MS
    download_bytes_per_s: int = 500 * MIB
    model_load_ms: int = 45 * SECOND_MS
    restart_backoff_ms: int = 10 * SECOND_MS
    restart_backoff_max_ms: int = 5 * MINUTE_MS
    pre_stop_floor_ms: int = 1_500  # A scaled preStop sleep still leaves a router that lives in real time this long.
    probe_floor_ms: int = 5_000  # However time is scaled, a real process gets this long to answer its probes.
    namespace_delete_ms: int = 500
    drain_deadline_ms: int = 10 * MINUTE_MS
    tokens_per_second: float = 60.0  # Of the model server; not scaled: it is what a client feels.

    faults: Faults = Field(default_factory=Faults, description="The trouble to begin with.")
    history_max: int = 2_000  # Changes that a watch can look back on, per API server.

    def scaled(self, duration_ms: float) -> int:
        """A duration of the real world in this one."""
        return round(duration_ms * self.time_scale)
