"""The kubelets of one cluster: sandbox, pull, init containers, the engine, its health, restarts, and the end."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from libs.twin import kinds, pods
from libs.twin.controllers.due import Due
from libs.twin.controllers.fetching import Fetches, tail
from libs.twin.controllers.launching import (
    images_of,
    init_of,
    launch_of,
    pre_stop_ms,
    pull_error,
    pull_ms,
    stuck_at_ms,
)
from libs.twin.controllers.pod_run import Phase, PodRun, container_id, termination, write_status
from libs.twin.engines_port import Engines
from libs.twin.events import Recorder
from libs.twin.objects import Json, is_terminating, name_of, namespace_of, uid_of
from libs.twin.options import Faults, TwinOptions
from libs.twin.store import Store

BACKOFF_FORGIVEN_MS: Final = 600_000  # Kubernetes forgets past crashes of a container that ran ten minutes.
TRANSITIONS_MAX: Final = 100  # Of one pod at one time; more means that two phases chase one another.


class Kubelet:
    """Runs the pods that are bound to nodes."""

    def __init__(  # A kubelet touches all of these.
        self,
        cluster: str,
        store: Store,
        engines: Engines,
        options: TwinOptions,
        faults: Callable[[], Faults],
        address_of: Callable[[str, int], str],
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._engines = engines
        self._options = options
        self._faults = faults
        self._address_of = address_of
        self._recorder = Recorder(store, "kubelet")
        self.fetches = Fetches(engines, options, faults)
        self._runs: dict[str, PodRun] = {}
        self._images: set[tuple[str, str]] = set()
        self._stopping: set[str] = set()
        self.silent: set[str] = set()  # Nodes whose kubelets are dead.

    def step(self, now_ms: int, due: Due) -> None:
        """Move every bound pod as far as it goes now."""
        placed = (each for each in self._store.all(kinds.PODS) if each["spec"].get("nodeName"))
        bound = {uid_of(each): each for each in placed if each["spec"]["nodeName"] not in self.silent}
        for uid in [each for each in self._runs if each not in bound]:
            self._kill(self._runs.pop(uid), now_ms)
        self._reap(now_ms, due)
        for uid, pod in bound.items():
            run = self._runs.get(uid)
            if run is None:
                run = self._runs[uid] = self._begin(pod, now_ms)
            self._move(pod, run, now_ms)
            if uid in self._runs:
                for next_ms in (run.until_ms, run.stop_at_ms, run.check_ms):
                    due.at(next_ms)
                for key in filter(None, (run.engine_key, run.fetch_key)):
                    due.at(self._engines.next_look_ms(key, now_ms))

    def engine_of(self, pod: Json) -> tuple[str, str] | None:
        """Key and address of the engine that runs in a pod; None if none does."""
        run = self._runs.get(uid_of(pod))
        return None if run is None or run.engine_key is None else (run.engine_key, run.address)

    def log_of(self, pod: Json, container: str, lines: str, now_ms: int) -> str:
        """What an init container wrote; of the others nothing is kept here."""
        run = self._runs.get(uid_of(pod))
        return "" if run is None else tail(self.fetches.log(pod, run, container, now_ms), lines)

    def close(self, now_ms: int) -> None:
        """Every node is gone: so is all that ran."""
        for run in self._runs.values():
            self._kill(run, now_ms)
        self._runs.clear()
        for key in self._stopping:
            self._engines.stop(key, grace_ms=0, now_ms=now_ms)
            self._engines.forget(key)
        self._stopping.clear()

    def addresses(self) -> set[str]:
        """Pod addresses in use."""
        return {each.address for each in self._runs.values()}

    def _begin(self, pod: Json, now_ms: int) -> PodRun:
        node = pod["spec"]["nodeName"]
        address = self._address_of(uid_of(pod), pods.port_of(pod["spec"]["containers"][0]))
        run = PodRun(uid_of(pod), node, f"{self._cluster}/{pods.describe(pod)}", address)
        run.until_ms = now_ms + self._options.scaled(self._options.sandbox_ms)
        return run

    def _move(self, pod: Json, run: PodRun, now_ms: int) -> None:
        if is_terminating(pod):
            self._terminate(pod, run, now_ms)
            return
        for _ in range(TRANSITIONS_MAX):
            before = (run.phase, run.index, run.until_ms)
            self._transition(pod, run, now_ms)
            if before == (run.phase, run.index, run.until_ms):
                break
        else:
            raise AssertionError(f"pod {run.key} never comes to rest in {run.phase}")
        self._report(pod, run, now_ms)

    def _report(self, pod: Json, run: PodRun, now_ms: int) -> None:
        """Write the status, if anything in it may differ from what was last written."""
        live = self._store.get(kinds.PODS, namespace_of(pod), name_of(pod))
        mark = (run.phase, run.index, run.until_ms, run.is_ready, run.engine_key, run.waiting)
        if run.reported == (*mark, live["metadata"]["resourceVersion"]):
            return
        written = self._store.edit(kinds.PODS, live, lambda fresh: write_status(fresh, run, now_ms))
        run.reported = (*mark, written["metadata"]["resourceVersion"])

    def _transition(self, pod: Json, run: PodRun, now_ms: int) -> None:
        if run.phase is Phase.RUNNING and run.index >= len(init_of(pod)):
            self._watch_engine(pod, run, now_ms)
            return
        self.fetches.look(run, now_ms)
        if run.until_ms is None or now_ms < run.until_ms:
            return
        match run.phase:
            case Phase.SANDBOX | Phase.PULL_FAILED:
                self._pull(pod, run, now_ms)
            case Phase.PULLING:
                self._pulled(pod, run, now_ms)
            case Phase.BACKOFF:
                self._start(pod, run, now_ms)
            case Phase.RUNNING:
                self._init_ended(pod, run, now_ms)
            case Phase.STOPPING:
                pass

    def _pull(self, pod: Json, run: PodRun, now_ms: int) -> None:
        for image in images_of(pod, run):
            if (run.node, image) in self._images:
                continue
            self._recorder.record(kinds.PODS, pod, "Pulling", f'Pulling image "{image}"', now_ms)
            run.phase, run.image = Phase.PULLING, image
            if not run.pull_failures:  # Else a kubelet goes on saying why the last try failed.
                is_first = run.index in (0, len(init_of(pod)))
                run.waiting = ("ContainerCreating" if is_first else "PodInitializing", "")
            run.until_ms = now_ms + pull_ms(image, self._options)
            return
        self._start(pod, run, now_ms)

    def _pulled(self, pod: Json, run: PodRun, now_ms: int) -> None:
        image, faults = run.image, self._faults()
        is_there = pods.repository(image) in self._options.images
        if not is_there or faults.failing_pulls or faults.unauthorized_pulls:
            self._pull_failed(pod, run, image, now_ms)
            return
        self._images.add((run.node, image))
        run.pull_failures = 0
        self._recorder.record(kinds.PODS, pod, "Pulled", f'Successfully pulled image "{image}"', now_ms)
        self._pull(pod, run, now_ms)

    def _pull_failed(self, pod: Json, run: PodRun, image: str, now_ms: int) -> None:
        run.pull_failures += 1
        error = pull_error(image, self._faults())
        self._recorder.record(
            kinds.PODS, pod, "Failed", f'Failed to pull image "{image}": {error}', now_ms, warning=True
        )
        run.phase = Phase.PULL_FAILED
        if run.pull_failures == 1:
            run.waiting = ("ErrImagePull", error)
        else:
            run.waiting = ("ImagePullBackOff", f'Back-off pulling image "{image}": ErrImagePull: {error}')
        run.until_ms = now_ms + self._backoff_ms(run.pull_failures)

    def _start(self, pod: Json, run: PodRun, now_ms: int) -> None:
        init = init_of(pod)
        run.phase = Phase.RUNNING
        if run.index < len(init):
            container = init[run.index]
            run.of(container).started_ms = now_ms
            self.fetches.start(self._store, pod, run, container, now_ms)
            self._recorder.record(kinds.PODS, pod, "Started", f"Started container {container['name']}", now_ms)
            return
        for container in pod["spec"]["containers"]:
            run.of(container).started_ms = now_ms
            self._recorder.record(kinds.PODS, pod, "Started", f"Started container {container['name']}", now_ms)
        run.until_ms = None
        run.is_ready = False
        run.was_ready, run.unhealthy_ms = False, None
        launch = launch_of(self._store, pod, run, self._options)
        run.engine_key = launch.key
        self._engines.start(launch, now_ms)

    def _init_ended(self, pod: Json, run: PodRun, now_ms: int) -> None:
        container = init_of(pod)[run.index]
        record = run.of(container)
        if not record.is_sidecar:  # Else it runs on, beside those that come after it.
            self.fetches.ended(run, now_ms)
            record.finished = termination(record, run.exit_code, now_ms, run.said)
            record.finished["containerID"] = container_id(pod, container, record)
        if run.exit_code == 0:
            record.is_done, run.index = not record.is_sidecar, run.index + 1
            run.phase, run.until_ms, run.waiting = Phase.SANDBOX, now_ms, ("PodInitializing", "")
            return
        self._back_off(pod, run, [container], now_ms)

    def _watch_engine(self, pod: Json, run: PodRun, now_ms: int) -> None:
        assert run.engine_key is not None, run.key
        code = self._engines.exit_code(run.engine_key, now_ms)
        if code is None:
            self._check_health(pod, run, now_ms)
            return
        self._engines.forget(run.engine_key)
        run.engine_key = None
        run.is_ready = False
        container = pod["spec"]["containers"][0]
        record = run.of(container)
        record.finished = termination(record, code, now_ms)
        self._back_off(pod, run, [container], now_ms)

    def _check_health(self, pod: Json, run: PodRun, now_ms: int) -> None:
        assert run.engine_key is not None, run.key
        run.is_ready = self._engines.is_healthy(run.engine_key, now_ms)
        run.check_ms = None
        if run.is_ready:
            run.was_ready, run.unhealthy_ms = True, None
            return
        if run.unhealthy_ms is None:
            run.unhealthy_ms = now_ms
        container = pod["spec"]["containers"][0]
        run.check_ms = stuck_at_ms(container, run, self._options)
        if run.check_ms is not None and now_ms >= run.check_ms:
            run.check_ms = None
            message = f"Container {container['name']} failed its probes, will be restarted"
            self._recorder.record(kinds.PODS, pod, "Killing", message, now_ms)
            self._engines.stop(run.engine_key, grace_ms=0, now_ms=now_ms)

    def _back_off(self, pod: Json, run: PodRun, containers: list[Json], now_ms: int) -> None:
        record = run.of(containers[0])
        if record.started_ms is not None and now_ms - record.started_ms > BACKOFF_FORGIVEN_MS:
            record.restarts = min(record.restarts, 1)
        wait_ms = self._backoff_ms(record.restarts) if record.restarts else 0
        record.restarts += 1
        record.started_ms = None
        run.phase = Phase.BACKOFF
        run.until_ms = now_ms + wait_ms
        name = containers[0]["name"]
        message = f"back-off {wait_ms // 1000}s restarting failed container={name} pod={name_of(pod)}"
        run.waiting = ("CrashLoopBackOff", message)
        warning = f"Back-off restarting failed container {name} in pod {name_of(pod)}"
        self._recorder.record(kinds.PODS, pod, "BackOff", warning, now_ms, warning=True)

    def _backoff_ms(self, failures: int) -> int:
        grown = self._options.restart_backoff_ms * 2 ** min(failures - 1, 10)
        return max(1, self._options.scaled(min(grown, self._options.restart_backoff_max_ms)))

    def _terminate(self, pod: Json, run: PodRun, now_ms: int) -> None:
        if run.phase is not Phase.STOPPING:
            run.phase, run.is_ready, run.until_ms = Phase.STOPPING, False, None
            run.stop_at_ms = now_ms + pre_stop_ms(pod, self._options)
            self._recorder.record(kinds.PODS, pod, "Killing", "Stopping container", now_ms)
            pod = self._store.edit(kinds.PODS, pod, lambda fresh: write_status(fresh, run, now_ms))
        if run.engine_key is not None:
            if run.stop_at_ms is not None and now_ms >= run.stop_at_ms:
                grace_ms = 1000 * int(pod["metadata"].get("deletionGracePeriodSeconds") or 0)
                left_ms = max(0, grace_ms - pre_stop_ms(pod, self._options))
                self._engines.stop(run.engine_key, grace_ms=left_ms, now_ms=now_ms)
                run.stop_at_ms = None
            if self._engines.exit_code(run.engine_key, now_ms) is None:
                return
            self._engines.forget(run.engine_key)
            run.engine_key = None
        self.fetches.forget(self._runs.pop(run.uid))
        if pod["metadata"].get("finalizers"):
            self._store.edit(kinds.PODS, pod, lambda fresh: fresh["metadata"].update(deletionGracePeriodSeconds=0))
        else:
            self._store.remove(kinds.PODS, pod)

    def _kill(self, run: PodRun, now_ms: int) -> None:
        self.fetches.forget(run)
        if run.engine_key is not None:
            self._engines.stop(run.engine_key, grace_ms=0, now_ms=now_ms)
            self._stopping.add(run.engine_key)

    def _reap(self, now_ms: int, due: Due) -> None:
        for key in sorted(self._stopping):
            if self._engines.exit_code(key, now_ms) is not None:
                self._engines.forget(key)
                self._stopping.discard(key)
            else:
                due.at(self._engines.next_look_ms(key, now_ms))
