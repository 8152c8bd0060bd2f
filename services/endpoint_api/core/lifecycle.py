"""The endpoint lifecycle: this table is the whole machine. A delete outranks a pause, that a failure, that progress."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from libs.common.events.endpoint import Stage
from libs.common.events.event import Owner
from libs.common.events.facts import Fact
from libs.common.lifecycle import Lifecycle, Row
from libs.common.units import MINUTE_MS

RECORD_MS: Final = 15 * MINUTE_MS  # One row has to be written; the rest rides out an upgrade of capacity-manager.
CAPACITY_MS: Final = 90 * MINUTE_MS  # Metal that another tenant gives back must be cleaned first (reliability 3.4).
CLUSTER_MS: Final = 20 * MINUTE_MS  # A tenant cluster takes 1-3 minutes; twenty outlive one Platform upgrade.
NODES_MS: Final = 90 * MINUTE_MS  # Bare metal boots, inspects and joins in up to an hour; cloud nodes in minutes.
GPU_MS: Final = 30 * MINUTE_MS  # Driver and device plugin: minutes, doubled for one rebuild of the driver.
IMAGE_MS: Final = 30 * MINUTE_MS  # 20 GiB at 20 MiB/s is 17 minutes.
DOWNLOAD_MS: Final = 120 * MINUTE_MS  # 800 GiB at 125 MiB/s is 110 minutes.
LOAD_MS: Final = 60 * MINUTE_MS  # The largest models load in half an hour from a cold disk.
WARM_MS: Final = 15 * MINUTE_MS  # Compiling kernels and one answered request.
PUBLISH_MS: Final = 10 * MINUTE_MS  # Milliseconds' work; the rest rides out a restart of the routers.
UPDATE_MS: Final = IMAGE_MS + DOWNLOAD_MS + LOAD_MS + WARM_MS + PUBLISH_MS  # All of what is made anew, at its slowest.
DRAIN_MS: Final = 15 * MINUTE_MS  # Streams are cut after two minutes: longer means that nobody answers.
RELEASE_MS: Final = 30 * MINUTE_MS  # Cleaning metal is slow, but it starts: later, people must look.

CREATING: Final = tuple(Stage)[: tuple(Stage).index(Stage.READY)]
SERVING: Final = (Stage.READY, Stage.DEGRADED)
SERVED: Final = (*SERVING, Stage.UPDATING)  # While an update rolls, the old or the new runtime serves.
HALTED: Final = (Stage.PAUSING, Stage.PAUSED)
TIMED: Final = (*CREATING, Stage.UPDATING)  # Stages that fail by the clock.
FAILURES: Final = (Fact.CAPACITY_FAILED, Fact.RUNTIME_FAILED)

CAPACITY: Final = Owner.CAPACITY_MANAGER
RUNTIME: Final = Owner.RUNTIME_DEPLOYER
ROUTER: Final = Owner.ROUTER

# fmt: off
LIFECYCLE: Final = Lifecycle(
    start=Stage.REQUESTED,
    rows=(
        *(Row(stage, Fact.DELETION_REQUESTED, Stage.DRAINING) for stage in (*CREATING, *SERVED, *HALTED, Stage.FAILED)),
        *(Row(stage, Fact.PAUSE_REQUESTED, Stage.PAUSING) for stage in (*CREATING, *SERVED, Stage.FAILED)),
        *(Row(stage, fact, Stage.FAILED) for fact in FAILURES for stage in (*CREATING, *SERVED)),
        *(Row(stage, Fact.DEADLINE_PASSED, Stage.FAILED) for stage in TIMED),
        # An update of what serves: the walk leaves the way of a create, and joins it again at ready.
        Row(Stage.REQUESTED, Fact.UPDATE_REQUESTED, Stage.UPDATING),
        Row(Stage.READY, Fact.RUNTIME_DEGRADED, Stage.DEGRADED),
        #   in stage                    we wait to hear          then we are in              from      within
        Row(Stage.REQUESTED,            Fact.CAPACITY_QUEUED,    Stage.WAITING_FOR_CAPACITY, CAPACITY, RECORD_MS),
        Row(Stage.WAITING_FOR_CAPACITY, Fact.CAPACITY_RESERVED,  Stage.PROVISIONING_CLUSTER, CAPACITY, CAPACITY_MS),
        Row(Stage.PROVISIONING_CLUSTER, Fact.CLUSTER_READY,      Stage.JOINING_NODES,        CAPACITY, CLUSTER_MS),
        Row(Stage.JOINING_NODES,        Fact.NODES_JOINED,       Stage.PREPARING_GPU,        CAPACITY, NODES_MS),
        Row(Stage.PREPARING_GPU,        Fact.GPU_READY,          Stage.PULLING_IMAGE,        CAPACITY, GPU_MS),
        Row(Stage.PULLING_IMAGE,        Fact.IMAGE_PULLED,       Stage.DOWNLOADING_MODEL,    RUNTIME,  IMAGE_MS),
        Row(Stage.DOWNLOADING_MODEL,    Fact.MODEL_DOWNLOADED,   Stage.LOADING_MODEL,        RUNTIME,  DOWNLOAD_MS),
        Row(Stage.LOADING_MODEL,        Fact.MODEL_LOADED,       Stage.WARMING_CACHE,        RUNTIME,  LOAD_MS),
        Row(Stage.WARMING_CACHE,        Fact.CACHE_WARMED,       Stage.PUBLISHING_ROUTE,     RUNTIME,  WARM_MS),
        Row(Stage.PUBLISHING_ROUTE,     Fact.ROUTE_PUBLISHED,    Stage.READY,                ROUTER,   PUBLISH_MS),
        Row(Stage.UPDATING,             Fact.ROUTE_PUBLISHED,    Stage.READY,                ROUTER,   UPDATE_MS),
        # Pausing and deleting never fail: past `within` they raise an alarm, and go on.
        Row(Stage.PAUSING,              Fact.CAPACITY_RELEASED,  Stage.PAUSED,               CAPACITY, RELEASE_MS),
        Row(Stage.DRAINING,             Fact.ROUTE_WITHDRAWN,    Stage.DELETING,             ROUTER,   DRAIN_MS),
        Row(Stage.DELETING,             Fact.CAPACITY_RELEASED,  Stage.DELETED,              CAPACITY, RELEASE_MS),
    ),
)
# fmt: on


def steps(current: Stage, path: Sequence[Stage]) -> tuple[Stage, ...]:
    """The stages entered, in order, on the way from ``current`` to the end of ``path``; each step is a row's."""
    if current in path:
        return tuple(path[path.index(current) + 1 :])
    exits = {row.to for row in LIFECYCLE.rows if row.stage is current}
    onward = next((index for index, stage in enumerate(path) if stage in exits), len(path) - 1)
    return tuple(path[onward:])  # Without an exit on the path a fact was taken back: degraded no longer.
