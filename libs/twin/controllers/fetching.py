"""The init containers of pods: simulated courses, or the real fetch of a model where pods' volumes are real."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from libs.common.units import SECOND_MS
from libs.model_fetch.reasons import EXIT_CODES, Reason
from libs.twin import pods
from libs.twin.controllers.caching import Caches, node_place
from libs.twin.controllers.launching import FETCH_IMAGE, init_course, init_of
from libs.twin.controllers.pod_run import PodRun
from libs.twin.engines_port import Engines, Launch
from libs.twin.objects import Json, uid_of
from libs.twin.options import Faults, TwinOptions
from libs.twin.store import Store

FETCH_MODULE: Final = "libs.model_fetch"
HOLD_MODULE: Final = "libs.model_fetch.hold"
HELD: Final = "held"  # What the holder writes, and the fetch waits for.
HIT_MS: Final = 500  # Looking at the files of a model that is there.
FULL_CODE: Final = EXIT_CODES[Reason.DISK_TOO_SMALL]
FULL: Final = f"{Reason.DISK_TOO_SMALL}: what is in the cache is in use or to be kept"
MODELS: Final = "/models"
SOURCE: Final = "/source"
SIMULATED: Final = "model digest does not match the manifest"
SAID_BYTES_MAX: Final = 4096  # As a kubelet keeps of a termination message.


@dataclass(frozen=True, slots=True)
class _Begun:
    """An init container that begins."""

    store: Store
    pod: Json
    run: PodRun
    container: Json
    now_ms: int

    @property
    def name(self) -> str:
        """What it is called in its pod."""
        return str(self.container["name"])

    def launch(self, key: str, module: str, places: dict[str, Path], log: Path) -> Launch:
        """One of our programs, with the places that it is told of as they are on this machine."""
        log.parent.mkdir(parents=True, exist_ok=True)
        env = pods.environment(self.store, self.pod, self.container)
        return Launch(
            key=key,
            image=self.container["image"],
            address=self.run.address,
            port=0,
            command=(sys.executable, "-m", module),
            args=(
                *(pods.expand(str(each), env) for each in self.container.get("args") or ()),
                *(text for name, path in places.items() for text in (name, str(path))),
            ),
            env=env,
            log=str(log),
        )

    def place(self, root: Path, mounted: str) -> Path:
        """Where a volume is that it sees at ``mounted``: of a claim, of the node, or the pod's own."""
        mounts = {each["mountPath"]: each["name"] for each in self.container.get("volumeMounts") or ()}
        name: str | None = mounts.get(mounted)
        if name is None:
            return _own(root, self.run)
        volume: Json = next((each for each in self.pod["spec"].get("volumes") or () if each["name"] == name), {})
        claim: str | None = (volume.get("persistentVolumeClaim") or {}).get("claimName")
        if claim:
            return root / "claims" / self.run.key.partition("/")[0] / claim
        path: str | None = (volume.get("hostPath") or {}).get("path")
        shared = node_place(self.store, self.run, path) if path else None
        return root / shared if shared is not None else _own(root, self.run) / name


class Fetches:
    """What init containers do, and what they say."""

    def __init__(self, engines: Engines, options: TwinOptions, faults: Callable[[], Faults]) -> None:
        self._engines = engines
        self._options = options
        self._faults = faults
        self.caches = Caches()

    def start(self, store: Store, pod: Json, run: PodRun, container: Json, now_ms: int) -> None:
        """Begin with one: it ends at `until_ms`, or, if it is a process, when that does."""
        begun = _Begun(store, pod, run, container, now_ms)
        root = self._engines.volumes()
        command = container.get("command") or ()
        if container.get("restartPolicy") == "Always":
            self._hold(root if HOLD_MODULE in command and _is_fetched(pod) else None, begun)
        elif root is None or FETCH_MODULE not in command:
            self._simulate(begun)
        else:
            self._fetch(root, begun)

    def ended(self, run: PodRun, now_ms: int) -> None:
        """One ended: if it was simulated and went well, what it says of its cache."""
        if run.exit_code == 0:
            run.said = run.said or self.caches.end(run, now_ms)

    def _fetch(self, root: Path, begun: _Begun) -> None:
        run, own = begun.run, _own(root, begun.run)
        places = {"--into": begun.place(root, MODELS), "--told": own / "told"}
        places |= {"--held": own / HELD} if "--held" in (begun.container.get("args") or ()) else {}
        mounted = begun.place(root, SOURCE)
        places |= {"--mounted": mounted} if mounted != own else {}
        run.fetch_key = f"{run.key}/{run.uid}/{begun.name}/{run.of(begun.container).restarts}"
        run.until_ms = None
        self._engines.start(begun.launch(run.fetch_key, FETCH_MODULE, places, own / "log"), begun.now_ms)

    def _hold(self, root: Path | None, begun: _Begun) -> None:
        """A sidecar that holds a model: it runs on, and what comes after it begins at once."""
        run = begun.run
        run.of(begun.container).is_sidecar = True
        run.until_ms, run.exit_code = begun.now_ms, 0
        self.caches.hold(begun.store, begun.pod, run, begun.container)
        if root is not None:
            own = _own(root, run)
            places = {"--into": begun.place(root, MODELS), "--told": own / HELD}
            run.hold_key = f"{run.key}/{run.uid}/{begun.name}"
            self._engines.start(begun.launch(run.hold_key, HOLD_MODULE, places, own / "held.log"), begun.now_ms)

    def _simulate(self, begun: _Begun) -> None:
        run = begun.run
        duration_ms, run.exit_code = init_course(begun.container, self._options, self._faults())
        run.said = SIMULATED if run.exit_code else ""
        run.until_ms = begun.now_ms + duration_ms
        if run.exit_code or pods.repository(begun.container["image"]) != FETCH_IMAGE:
            return
        ends_ms = self.caches.begin(
            begun.store,
            begun.pod,
            run,
            begun.container,
            now_ms=begun.now_ms,
            download_ms=duration_ms,
            hit_ms=self._options.scaled(HIT_MS),
        )
        if ends_ms is None:
            run.exit_code, run.said = FULL_CODE, FULL
        run.until_ms = ends_ms or begun.now_ms

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
        for key in filter(None, (run.fetch_key, run.hold_key)):
            self._engines.forget(key)
        run.fetch_key = run.hold_key = None
        self.caches.forget(run)
        root = self._engines.volumes()
        if root is not None:
            shutil.rmtree(_own(root, run), ignore_errors=True)

    def forget_node(self, node: Json) -> None:
        """The machine is gone, with its disks."""
        root = self._engines.volumes()
        if root is not None:
            shutil.rmtree(root / "nodes" / uid_of(node), ignore_errors=True)


def tail(text: str, lines: str) -> str:
    """The last lines of a log, as `tailLines` asks."""
    return "".join(text.splitlines(keepends=True)[-int(lines) :]) if lines.isdecimal() and int(lines) else text


def _simulated_bytes(elapsed_ms: int, options: TwinOptions) -> int:
    whole_ms = options.scaled(SECOND_MS)
    return elapsed_ms * options.download_bytes_per_s // whole_ms if whole_ms else 0


def _is_fetched(pod: Json) -> bool:
    """Whether the pod's model is brought by the real program."""
    return any(FETCH_MODULE in (each.get("command") or ()) for each in init_of(pod))


def _own(root: Path, run: PodRun) -> Path:
    return root / "pods" / run.uid


def _read(path: Path, *, from_end: bool = False) -> str:
    try:
        text = path.read_bytes()
    except OSError:
        return ""
    return (text[-SAID_BYTES_MAX:] if from_end else text[:SAID_BYTES_MAX]).decode(errors="replace")
