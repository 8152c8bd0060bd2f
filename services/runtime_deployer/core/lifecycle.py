"""The table of a runtime: from a request to replicas that serve, and back to nothing."""

from __future__ import annotations

from enum import StrEnum
from typing import Final

from libs.common.events.facts import Fact
from libs.common.lifecycle import Lifecycle, Row
from libs.common.store.port import Attention
from services.runtime_deployer.core.progress import is_installed, is_rolled
from services.runtime_deployer.core.state import Runtime


class Stage(StrEnum):
    """Where a runtime stands."""

    WAITING_FOR_REQUEST = "waiting_for_request"
    WAITING_FOR_GPU = "waiting_for_gpu"
    INSTALLING = "installing"
    PULLING = "pulling"
    DOWNLOADING = "downloading"
    LOADING = "loading"
    WARMING = "warming"
    SERVING = "serving"
    DEGRADED = "degraded"
    FAILED = "failed"
    DRAINING = "draining"
    REMOVING = "removing"
    REMOVED = "removed"


class Known(StrEnum):
    """What moves a runtime: orders heard, objects seen, and facts that we told."""

    REQUESTED = "requested"
    GPU_READY = "gpu_ready"
    INSTALLED = "installed"
    IMAGE_PULLED = "image_pulled"
    MODEL_DOWNLOADED = "model_downloaded"
    MODEL_LOADED = "model_loaded"
    CACHE_WARMED = "cache_warmed"
    DEGRADED = "no_replica_ready"
    FAILED = "failed"
    UNWANTED = "unwanted"
    WITHDRAWN = "withdrawn"
    REMOVED = "nothing_left"


_WAY: Final = (
    Row(Stage.WAITING_FOR_REQUEST, Known.REQUESTED, Stage.WAITING_FOR_GPU, "endpoint-api"),
    Row(Stage.WAITING_FOR_GPU, Known.GPU_READY, Stage.INSTALLING, "capacity-manager"),
    Row(Stage.INSTALLING, Known.INSTALLED, Stage.PULLING, "tenant cluster"),
    Row(Stage.PULLING, Known.IMAGE_PULLED, Stage.DOWNLOADING, "tenant cluster"),
    Row(Stage.DOWNLOADING, Known.MODEL_DOWNLOADED, Stage.LOADING, "tenant cluster"),
    Row(Stage.LOADING, Known.MODEL_LOADED, Stage.WARMING, "tenant cluster"),
    Row(Stage.WARMING, Known.CACHE_WARMED, Stage.SERVING, "tenant cluster"),
)
_BACK: Final = (
    Row(Stage.DRAINING, Known.WITHDRAWN, Stage.REMOVING, "router"),
    Row(Stage.REMOVING, Known.REMOVED, Stage.REMOVED, "tenant cluster"),
)
_UP: Final = (*(row.stage for row in _WAY), Stage.SERVING, Stage.DEGRADED, Stage.FAILED)

LIFECYCLE: Final = Lifecycle(
    start=Stage.WAITING_FOR_REQUEST,
    rows=(
        *(Row(stage, Known.UNWANTED, Stage.DRAINING) for stage in _UP),
        *(Row(row.stage, Known.FAILED, Stage.FAILED) for row in _WAY),
        Row(Stage.SERVING, Known.DEGRADED, Stage.DEGRADED),
        *_WAY,
        *_BACK,
    ),
)

_TOLD: Final = {
    Fact.IMAGE_PULLED: Known.IMAGE_PULLED,
    Fact.MODEL_DOWNLOADED: Known.MODEL_DOWNLOADED,
    Fact.MODEL_LOADED: Known.MODEL_LOADED,
    Fact.CACHE_WARMED: Known.CACHE_WARMED,
    Fact.RUNTIME_DEGRADED: Known.DEGRADED,
    Fact.RUNTIME_FAILED: Known.FAILED,
    Fact.RUNTIME_REMOVED: Known.REMOVED,
}


def stage_of(runtime: Runtime) -> Stage:
    """Where a walk through the table stops."""
    return LIFECYCLE.stage_of(known(runtime))


def known(runtime: Runtime) -> frozenset[Known]:
    """What holds for this runtime now."""
    holds = {
        Known.REQUESTED: runtime.is_wanted,
        Known.GPU_READY: runtime.is_placed,
        Known.INSTALLED: is_installed(runtime),
        Known.UNWANTED: runtime.is_unwanted,
        Known.WITHDRAWN: runtime.is_withdrawn,
    }
    told = {_TOLD[each] for each in runtime.told_facts}
    return frozenset(each for each, true in holds.items() if true) | told


def attention_of(runtime: Runtime) -> Attention:
    """How closely the reconciler should follow it: what moves at once, what rests now and then."""
    stage = stage_of(runtime)
    if stage in (Stage.WAITING_FOR_REQUEST, Stage.REMOVED):
        return Attention.NONE
    if stage is Stage.SERVING:
        is_settled = len(runtime.replicas_told.replicas) == runtime.replicas_wanted and is_rolled(runtime)
        return Attention.WATCH if is_settled else Attention.NOW
    if stage in (Stage.WAITING_FOR_GPU, Stage.DRAINING, Stage.FAILED):
        # Nothing is to be done, but what was there before may go on serving.
        return Attention.WATCH if runtime.intended and runtime.cluster is not None else Attention.NONE
    return Attention.NOW
