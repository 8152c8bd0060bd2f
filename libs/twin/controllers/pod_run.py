"""What a kubelet remembers of one pod, and the status that it reports for it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum

from libs.twin.objects import Json, set_condition, timestamp, uid_of


class Phase(StrEnum):
    """How far a container of a pod is."""

    SANDBOX = "sandbox"
    PULLING = "pulling"
    PULL_FAILED = "pull_failed"
    RUNNING = "running"
    BACKOFF = "backoff"
    STOPPING = "stopping"


@dataclass(slots=True)
class ContainerRun:
    """One container of one pod."""

    restarts: int = 0
    started_ms: int | None = None
    finished: Json | None = None  # The last termination.
    is_done: bool = False  # An init container that ended well.
    is_sidecar: bool = False  # An init container that runs for as long as the pod.


@dataclass(slots=True)
class PodRun:
    """One pod on one node. `index` counts the init containers, then the main containers together."""

    uid: str
    node: str
    key: str
    address: str
    phase: Phase = Phase.SANDBOX
    until_ms: int | None = None
    index: int = 0
    image: str = ""  # The one that is being pulled.
    pull_failures: int = 0
    waiting: tuple[str, str] = ("ContainerCreating", "")
    engine_key: str | None = None
    is_ready: bool = False
    exit_code: int = 0
    said: str = ""  # By the init container that ended last.
    fetch_key: str | None = None  # Of an init container that is a process.
    hold_key: str | None = None  # Of a sidecar that is one.
    stop_at_ms: int | None = None
    was_ready: bool = False
    unhealthy_ms: int | None = None
    reported: tuple[object, ...] = ()  # What the status was last written from.
    check_ms: int | None = None  # When its kubelet gives up on it.
    containers: dict[str, ContainerRun] = field(default_factory=dict)

    def of(self, container: Json) -> ContainerRun:
        """The run of one container."""
        return self.containers.setdefault(container["name"], ContainerRun())


def write_status(pod: Json, run: PodRun, now_ms: int) -> None:
    """Write, in place, the status of a pod from what its kubelet remembers."""
    init = pod["spec"].get("initContainers") or []
    main = pod["spec"]["containers"]
    is_initialized = run.index >= len(init)
    is_up = is_initialized and run.phase in {Phase.RUNNING, Phase.STOPPING}
    status = pod["status"]
    status["phase"] = "Running" if is_up or any(run.of(each).started_ms is not None for each in main) else "Pending"
    status["hostIP"] = run.address
    status["podIP"] = run.address
    status["podIPs"] = [{"ip": run.address}]
    status.setdefault("startTime", timestamp(now_ms))
    if init:
        status["initContainerStatuses"] = [_status_of(each, place, run, pod) for place, each in enumerate(init)]
    status["containerStatuses"] = [_status_of(each, len(init), run, pod) for each in main]
    ready = is_up and run.is_ready and run.phase is Phase.RUNNING
    names = "[" + " ".join(each["name"] for each in main) + "]"
    unready = "" if ready else f"containers with unready status: {names}"
    why = "" if ready else "ContainersNotReady"
    set_condition(pod, "PodReadyToStartContainers", run.phase is not Phase.SANDBOX, now_ms)
    if is_initialized:
        set_condition(pod, "Initialized", True, now_ms)
    else:
        left = "[" + " ".join(each["name"] for each in init[run.index :]) + "]"
        message = f"containers with incomplete status: {left}"
        set_condition(pod, "Initialized", False, now_ms, reason="ContainersNotInitialized", message=message)
    set_condition(pod, "ContainersReady", ready, now_ms, reason=why, message=unready)
    set_condition(pod, "Ready", ready, now_ms, reason=why, message=unready)


def _status_of(container: Json, place: int, run: PodRun, pod: Json) -> Json:
    record = run.of(container)
    is_init = place < len(pod["spec"].get("initContainers") or ())
    state, started = _state(place, run, record)
    status: Json = {
        "name": container["name"],
        "image": container["image"],
        "imageID": "",
        "ready": record.is_done or record.is_sidecar if is_init else started and run.is_ready,
        "started": started,
        "restartCount": record.restarts,
        "state": state,
        "lastState": {},
    }
    if record.started_ms is not None or record.finished is not None:
        digest = hashlib.sha256(container["image"].encode()).hexdigest()
        status["imageID"] = f"{container['image'].split('@')[0].rsplit(':', 1)[0]}@sha256:{digest}"
        status["containerID"] = container_id(pod, container, record)
    if record.finished is not None and "terminated" not in state:
        status["lastState"] = {"terminated": record.finished}
    return status


def _state(place: int, run: PodRun, record: ContainerRun) -> tuple[Json, bool]:
    if record.is_done:
        return {"terminated": record.finished}, False
    if record.is_sidecar and record.started_ms is not None:
        return {"running": {"startedAt": timestamp(record.started_ms)}}, True
    if place > run.index:
        return {"waiting": {"reason": "PodInitializing"}}, False
    if run.phase in {Phase.RUNNING, Phase.STOPPING} and record.started_ms is not None:
        return {"running": {"startedAt": timestamp(record.started_ms)}}, True
    reason, message = run.waiting
    return {"waiting": {"reason": reason, **({"message": message} if message else {})}}, False


def container_id(pod: Json, container: Json, record: ContainerRun) -> str:
    """The runtime's id of this run of the container."""
    text = f"{uid_of(pod)}|{container['name']}|{record.restarts}"
    return f"containerd://{hashlib.sha256(text.encode()).hexdigest()}"


def termination(record: ContainerRun, code: int, now_ms: int, message: str = "") -> Json:
    """The `terminated` state of a container that ended now."""
    ended: Json = {
        "exitCode": code,
        "reason": "Completed" if code == 0 else "OOMKilled" if code == 137 and message == "oom" else "Error",
        "startedAt": timestamp(record.started_ms if record.started_ms is not None else now_ms),
        "finishedAt": timestamp(now_ms),
    }
    if message:
        ended["message"] = message
    return ended
