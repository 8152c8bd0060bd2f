"""What a kubelet reads out of a pod before it runs something: images, init containers, the engine's launch."""

from __future__ import annotations

from typing import Final

from libs.twin import kinds, pods
from libs.twin.controllers.pod_run import PodRun
from libs.twin.engines_port import Launch
from libs.twin.objects import Json, name_of, namespace_of
from libs.twin.options import Faults, TwinOptions
from libs.twin.store import Store

FETCH_IMAGE: Final = "millrace/model-fetch"
SERVER_IMAGE: Final = "millrace/model-server"
FETCH_ERROR_MS: Final = 500  # Reading a manifest is enough to see that its digest is wrong.


def init_of(pod: Json) -> list[Json]:
    """Its init containers."""
    return pod["spec"].get("initContainers") or []


def images_of(pod: Json, run: PodRun) -> list[str]:
    """The images that the next step needs: of one init container, or of all main containers."""
    init = init_of(pod)
    if run.index < len(init):
        return [init[run.index]["image"]]
    return [each["image"] for each in pod["spec"]["containers"]]


def pull_ms(image: str, options: TwinOptions) -> int:
    """How long it takes to pull an image."""
    small = pods.repository(image) == FETCH_IMAGE
    return options.scaled(options.fetch_image_pull_ms if small else options.image_pull_ms)


def pull_error(image: str, faults: Faults) -> str:
    """What a registry's refusal looks like."""
    why = "unexpected status from HEAD request: 401 Unauthorized" if faults.unauthorized_pulls else "not found"
    return f'failed to pull and unpack image "{image}": failed to resolve reference: {why}'


def init_course(container: Json, options: TwinOptions, faults: Faults) -> tuple[int, int]:
    """How long an init container runs, and how it ends. One that fetches no model does nothing, well."""
    args = (*(container.get("command") or ()), *(container.get("args") or ()))
    if pods.repository(container["image"]) != FETCH_IMAGE:
        return 0, 0
    digest, size = pods.option(args, "--digest") or "", pods.option(args, "--size-bytes") or "0"
    if not digest.startswith("sha256:") or not size.isdigit() or faults.digest_mismatch:
        return options.scaled(FETCH_ERROR_MS), 1
    return options.scaled(1000 * int(size) / options.download_bytes_per_s), 0


def launch_of(store: Store, pod: Json, run: PodRun, options: TwinOptions) -> Launch:
    """The engine of the pod's first main container, with its address known to whatever refers to it."""
    store.edit(kinds.PODS, pod, lambda fresh: fresh["status"].update(podIP=run.address, hostIP=run.address))
    fresh = store.get(kinds.PODS, namespace_of(pod), name_of(pod))
    container = pod["spec"]["containers"][0]
    env = pods.environment(store, fresh, container)
    is_ours = pods.repository(container["image"]) == SERVER_IMAGE and not container.get("command")
    return Launch(
        key=f"{run.key}/{run.uid}/{run.of(container).restarts}",
        image=container["image"],
        address=run.address,
        port=pods.port_of(container),
        command=tuple(pods.expand(str(each), env) for each in container.get("command") or ()),
        args=tuple(pods.expand(str(each), env) for each in container.get("args") or ()),
        env=env,
        probe_path=pods.probe_path(container),
        load_ms=options.scaled(options.model_load_ms) if is_ours else 0,
        tokens_per_second=options.tokens_per_second,
    )


def pre_stop_ms(pod: Json, options: TwinOptions) -> int:
    """How long its preStop hook sleeps before the engine is told to end."""
    hook = (pod["spec"]["containers"][0].get("lifecycle") or {}).get("preStop") or {}
    command = (hook.get("exec") or {}).get("command") or []
    seconds = 0
    if "sleep" in hook:
        seconds = int(hook["sleep"].get("seconds", 0))
    elif len(command) == 2 and command[0].endswith("sleep") and command[1].isdigit():
        seconds = int(command[1])
    asked_ms = 1000 * seconds
    return min(asked_ms, max(options.scaled(asked_ms), options.pre_stop_floor_ms))


def stuck_at_ms(container: Json, run: PodRun, options: TwinOptions) -> int | None:
    """When its kubelet gives up on an engine that is not healthy: by startupProbe at first, by livenessProbe later."""
    started_ms = run.of(container).started_ms
    if run.was_ready:
        probe, since_ms = container.get("livenessProbe"), run.unhealthy_ms
    else:
        probe = container.get("startupProbe") or container.get("livenessProbe")
        since_ms = started_ms
    if not probe or since_ms is None:
        return None
    delay_s = int(probe.get("initialDelaySeconds") or 0)
    window_s = delay_s + int(probe.get("periodSeconds", 10)) * int(probe.get("failureThreshold", 3))
    return since_ms + max(options.scaled(1000 * window_s), options.probe_floor_ms)
