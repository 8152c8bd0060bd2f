"""The init containers of pods: simulated courses, or the real fetch of a model where pods' volumes are real."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from libs.common.units import SECOND_MS
from libs.twin import pods
from libs.twin.controllers.launching import FETCH_IMAGE, init_course, init_of
from libs.twin.controllers.pod_run import PodRun
from libs.twin.engines_port import Engines, Launch
from libs.twin.objects import Json
from libs.twin.options import Faults, TwinOptions
from libs.twin.store import Store

FETCH_MODULE: Final = "libs.model_fetch"
MODELS: Final = "/models"
SOURCE: Final = "/source"
SIMULATED: Final = "model digest does not match the manifest"
SAID_BYTES_MAX: Final = 4096  # As a kubelet keeps of a termination message.


class Fetches:
    """What init containers do, and what they say."""

    def __init__(self, engines: Engines, options: TwinOptions, faults: Callable[[], Faults]) -> None:
        self._engines = engines
        self._options = options
        self._faults = faults

    def start(self, store: Store, pod: Json, run: PodRun, container: Json, now_ms: int) -> None:
        """Begin with one: it ends at `until_ms`, or, if it is a process, when that does."""
        root = self._engines.volumes()
        if root is None or FETCH_MODULE not in (container.get("command") or ()):
            duration_ms, run.exit_code = init_course(container, self._options, self._faults())
            run.until_ms = now_ms + duration_ms
            run.said = SIMULATED if run.exit_code else ""
            return
        own = _own(root, run)
        own.mkdir(parents=True, exist_ok=True)
        env = pods.environment(store, pod, container)
        places = {"--into": _place(root, pod, run, container, MODELS), "--told": own / "told"}
        mounted = _place(root, pod, run, container, SOURCE)
        places |= {"--mounted": mounted} if mounted != own else {}
        run.fetch_key = f"{run.key}/{run.uid}/{container['name']}/{run.of(container).restarts}"
        run.until_ms = None
        launch = Launch(
            key=run.fetch_key,
            image=container["image"],
            address=run.address,
            port=0,
            command=(sys.executable, "-m", FETCH_MODULE),
            args=(
                *(pods.expand(str(each), env) for each in container.get("args") or ()),
                *(text for name, path in places.items() for text in (name, str(path))),
            ),
            env=env,
            log=str(own / "log"),
        )
        self._engines.start(launch, now_ms)

    def look(self, run: PodRun, now_ms: int) -> None:
        """See whether the process ended, how, and what it said."""
        root = self._engines.volumes()
        if run.fetch_key is None or root is None:
            return
        code = self._engines.exit_code(run.fetch_key, now_ms)
        if code is None:
            return
        self._engines.forget(run.fetch_key)
        run.fetch_key, run.exit_code, run.until_ms = None, code, now_ms
        run.said = _read(_own(root, run) / "told")

    def log(self, pod: Json, run: PodRun, name: str, now_ms: int) -> str:
        """What an init container wrote so far; of a simulated fetch, how far it would be. Of others nothing is kept."""
        container: Json | None = next((each for each in init_of(pod) if each["name"] == name), None)
        if container is None:
            return ""
        root = self._engines.volumes()
        if root is not None and (_own(root, run) / "log").is_file():
            return _read(_own(root, run) / "log", from_end=True)
        size = pods.option(tuple(container.get("args") or ()), "--size-bytes") or ""
        began_ms = run.of(container).started_ms
        if pods.repository(container["image"]) != FETCH_IMAGE or not size.isdecimal() or began_ms is None:
            return ""
        total = int(size)
        done = min(total, _simulated_bytes(now_ms - began_ms, self._options))
        return json.dumps({"state": "downloading", "bytes_done": done, "bytes_total": total}) + "\n"

    def forget(self, run: PodRun) -> None:
        """The pod is gone, with what was its own."""
        if run.fetch_key is not None:
            self._engines.forget(run.fetch_key)
            run.fetch_key = None
        root = self._engines.volumes()
        if root is not None:
            shutil.rmtree(_own(root, run), ignore_errors=True)


def tail(text: str, lines: str) -> str:
    """The last lines of a log, as `tailLines` asks."""
    return "".join(text.splitlines(keepends=True)[-int(lines) :]) if lines.isdecimal() and int(lines) else text


def _simulated_bytes(elapsed_ms: int, options: TwinOptions) -> int:
    whole_ms = options.scaled(SECOND_MS)
    return elapsed_ms * options.download_bytes_per_s // whole_ms if whole_ms else 0


def _own(root: Path, run: PodRun) -> Path:
    return root / "pods" / run.uid


def _place(root: Path, pod: Json, run: PodRun, container: Json, mounted: str) -> Path:
    """Where on this machine a volume is that the container sees at ``mounted``: of a claim, or the pod's own."""
    mounts = {each["mountPath"]: each["name"] for each in container.get("volumeMounts") or ()}
    name: str | None = mounts.get(mounted)
    if name is None:
        return _own(root, run)
    volume: Json = next((each for each in pod["spec"].get("volumes") or () if each["name"] == name), {})
    claim: str | None = (volume.get("persistentVolumeClaim") or {}).get("claimName")
    if claim:
        return root / "claims" / run.key.partition("/")[0] / claim
    return _own(root, run) / name


def _read(path: Path, *, from_end: bool = False) -> str:
    try:
        text = path.read_bytes()
    except OSError:
        return ""
    return (text[-SAID_BYTES_MAX:] if from_end else text[:SAID_BYTES_MAX]).decode(errors="replace")
