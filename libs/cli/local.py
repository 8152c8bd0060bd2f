"""Bringing the local profile up and down, and saying how it is."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Final

import httpx

from libs.cli.profile import Home, LocalSettings, require_free, write_private, written
from libs.cli.programs import Program, programs
from libs.cli.running import runs
from libs.common.bus.server import find_nats_server, render_config
from libs.common.errors import Unavailable

NO_TLS: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # Else each look reads all certificates there are.
READY_S: Final = 120.0  # A cold laptop starts all processes in under ten; a machine that does much else, in sixty.
STOP_S: Final = 60.0
END_S: Final = 15.0  # For processes whose supervisor was killed; then they are too.
POLL_S: Final = 0.1
RESTARTS_MAX: Final = 3  # What ended this often before it was ready will not be, whatever we wait.
LAST_WORDS_MAX: Final = 300


@dataclass(frozen=True, slots=True)
class Health:
    """One process as it is now."""

    name: str
    pid: int | None
    ready: bool
    restarts: int
    url: str


@dataclass(frozen=True, slots=True)
class _State:
    """What the supervisor writes down."""

    supervisor: int
    pids: dict[str, int]
    restarts: dict[str, int]


def up(home: Home, settings: LocalSettings, *, progress: Callable[[str], None]) -> None:
    """Start the profile and wait until every process is ready.

    Raises Invalid or Unavailable, with one line that says what to do, if it can't be; what it started is stopped again.
    """
    home.make()
    with home.lock.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # Of two at once, one starts it, and the other waits until that is done.
        _up(home, settings, progress)


def _up(home: Home, settings: LocalSettings, progress: Callable[[str], None]) -> None:
    if is_up(home):
        progress("already running")
        _wait_until_ready(home, None, progress)
        return
    down(home)  # A supervisor that was killed leaves processes behind.
    require_free(settings)
    home.prepare(settings)
    plan = programs(home, settings, _nats(home, settings))
    write_private(home.plan, json.dumps([asdict(each) for each in plan]))
    try:
        _wait_until_ready(home, _supervise(home), progress)
    except BaseException:  # Ctrl-C too: half a profile is of no use.
        down(home)
        raise


def down(home: Home) -> bool:
    """Stop the profile; False if none was running."""
    state = _state(home)
    if state is None:
        return False
    if not is_up(home):
        _end(home, state)
        return True
    os.kill(state.supervisor, signal.SIGTERM)
    deadline_s = time.monotonic() + STOP_S
    while runs(state.supervisor, _supervisor(home)):
        if time.monotonic() > deadline_s:
            raise Unavailable(f"still stopping after {STOP_S:.0f} s: see {home.logs}")
        time.sleep(POLL_S)
    _end(home, _state(home) or state)  # It tidies up itself, unless it was stopped before it could.
    return True


def is_up(home: Home) -> bool:
    """Whether a supervisor runs for this state directory."""
    state = _state(home)
    return state is not None and runs(state.supervisor, _supervisor(home))


def health(home: Home) -> tuple[Health, ...]:
    """Every process of the profile, in order of their start."""
    state = _state(home) or _State(0, {}, {})
    return tuple(
        Health(
            name=each.name,
            pid=state.pids.get(each.name),
            ready=each.name in state.pids and _is_ready(each),
            restarts=state.restarts.get(each.name, 0),
            url=each.ready_url or "",
        )
        for each in _plan(home)
        if not each.once
    )


def _supervisor(home: Home) -> tuple[str, ...]:
    return (sys.executable, "-m", "libs.cli.supervisor", str(home.path))


def _supervise(home: Home) -> subprocess.Popen[bytes]:
    with (home.logs / "supervisor.log").open("ab") as log:
        process = subprocess.Popen(
            _supervisor(home), stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    # So that it can be stopped from its first moment on; what it writes itself comes later.
    write_private(home.state, json.dumps(asdict(_State(process.pid, {}, {}))))
    return process


def _nats(home: Home, settings: LocalSettings) -> Program:
    store_dir = home.path / "nats"
    store_dir.mkdir(exist_ok=True)
    config = store_dir / "nats.conf"
    ports = settings.ports
    config.write_text(render_config(store_dir=store_dir, port=ports.nats, monitor_port=ports.nats_monitor))
    return Program(
        "nats", (str(find_nats_server()), "-c", str(config)), {}, f"http://127.0.0.1:{ports.nats_monitor}/healthz"
    )


def _wait_until_ready(home: Home, supervisor: subprocess.Popen[bytes] | None, progress: Callable[[str], None]) -> None:
    deadline_s = time.monotonic() + READY_S
    told: set[str] = set()
    while time.monotonic() < deadline_s:
        found = health(home)
        for each in found:
            if each.ready and each.name not in told:
                told.add(each.name)
                progress(f"{each.name} is ready")
        if found and all(each.ready for each in found):
            return
        if supervisor is not None and supervisor.poll() is not None:
            raise Unavailable(f"it could not be started: {_last_words(home, 'supervisor')}")
        hopeless = next((each for each in found if not each.ready and each.restarts >= RESTARTS_MAX), None)
        if hopeless is not None:
            raise Unavailable(f"{hopeless.name} does not start: {_last_words(home, hopeless.name)}")
        time.sleep(POLL_S)
    missing = [each.name for each in health(home) if not each.ready]
    raise Unavailable(
        f"not ready after {READY_S:.0f} s: {', '.join(missing)}; {missing[0]} says: {_last_words(home, missing[0])}"
    )


def _last_words(home: Home, name: str) -> str:
    """The end of a log, in one line, and where to read on."""
    path = home.logs / f"{name}.log"
    lines = path.read_text(errors="replace").split("\n") if path.exists() else []
    said = next((each.strip() for each in reversed(lines) if each.strip()), "nothing")
    return f"{said[:LAST_WORDS_MAX]} (more in {path})"


def _is_ready(program: Program) -> bool:
    if program.ready_url is None:
        return True
    try:
        return httpx.get(program.ready_url, timeout=2.0, verify=NO_TLS).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def _plan(home: Home) -> tuple[Program, ...]:
    try:
        plan = json.loads(home.plan.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return ()
    return tuple(Program(**{**each, "argv": tuple(each["argv"])}) for each in plan)


def _state(home: Home) -> _State | None:
    found = written(home.state)
    return _State(**found) if found else None


def _end(home: Home, state: _State) -> None:
    """End what a supervisor that is gone left running."""
    argv = {each.name: each.argv for each in _plan(home)}
    left = {pid: argv[name] for name, pid in state.pids.items() if name in argv}
    for signal_ in (signal.SIGTERM, signal.SIGKILL):
        left = {pid: each for pid, each in left.items() if runs(pid, each)}
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal_)
        deadline_s = time.monotonic() + END_S
        while any(runs(pid, each) for pid, each in left.items()) and time.monotonic() < deadline_s:
            time.sleep(POLL_S)
    home.state.unlink(missing_ok=True)
