"""Bringing the local profile up and down, and saying how it is."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Final

import httpx

from libs.cli.profile import Home, LocalSettings, Program, programs, require_free
from libs.common.bus.server import find_nats_server, render_config
from libs.common.errors import Invalid, Unavailable

READY_S: Final = 60.0  # A cold laptop starts all processes in under ten.
STOP_S: Final = 60.0
POLL_S: Final = 0.1


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
    failed: str | None
    pids: dict[str, int]
    restarts: dict[str, int]


def up(home: Home, settings: LocalSettings, *, progress: Callable[[str], None]) -> None:
    """Start the profile and wait until every process is ready.

    Raises Invalid or Unavailable, with one line that says what to do, if it can't be.
    """
    if is_up(home):
        progress("already running")
    else:
        require_free(settings)
        home.prepare(settings)
        plan = programs(home, settings, _nats(home, settings))
        home.plan.write_text(json.dumps([asdict(each) for each in plan]))
        with (home.logs / "supervisor.log").open("ab") as log:
            subprocess.Popen(
                [sys.executable, "-m", "libs.cli.supervisor", str(home.path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
    _wait_until_ready(home, progress)


def down(home: Home) -> bool:
    """Stop the profile; False if none was running."""
    state = _state(home)
    if state is None:
        return False
    if not _is_alive(state.supervisor):
        for pid in state.pids.values():
            _end(pid)
        home.state.unlink(missing_ok=True)
        return True
    os.kill(state.supervisor, signal.SIGTERM)
    deadline_s = time.monotonic() + STOP_S
    while home.state.exists() or _is_alive(state.supervisor):
        if time.monotonic() > deadline_s:
            raise Unavailable(f"still stopping after {STOP_S:.0f} s: see {home.logs}")
        time.sleep(POLL_S)
    return True


def is_up(home: Home) -> bool:
    """Whether a supervisor runs for this state directory."""
    state = _state(home)
    return state is not None and _is_alive(state.supervisor)


def health(home: Home) -> tuple[Health, ...]:
    """Every process of the profile, in order of their start."""
    if not home.plan.exists():
        return ()
    state = _state(home) or _State(0, None, {}, {})
    plan = [Program(**each) for each in json.loads(home.plan.read_text())]
    return tuple(
        Health(
            name=each.name,
            pid=state.pids.get(each.name),
            ready=each.name in state.pids and _is_ready(each),
            restarts=state.restarts.get(each.name, 0),
            url=each.ready_url or "",
        )
        for each in plan
        if not each.once
    )


def _nats(home: Home, settings: LocalSettings) -> Program:
    store_dir = home.path / "nats"
    store_dir.mkdir(exist_ok=True)
    config = store_dir / "nats.conf"
    ports = settings.ports
    config.write_text(render_config(store_dir=store_dir, port=ports.nats, monitor_port=ports.nats_monitor))
    return Program(
        "nats", (str(find_nats_server()), "-c", str(config)), {}, f"http://127.0.0.1:{ports.nats_monitor}/healthz"
    )


def _wait_until_ready(home: Home, progress: Callable[[str], None]) -> None:
    deadline_s = time.monotonic() + READY_S
    told: set[str] = set()
    while time.monotonic() < deadline_s:
        state = _state(home)
        if state is not None and state.failed:
            raise Invalid(f"{state.failed} failed: see {home.logs / state.failed}.log")
        found = health(home)
        for each in found:
            if each.ready and each.name not in told:
                told.add(each.name)
                progress(f"{each.name} is ready")
        if found and all(each.ready for each in found):
            return
        time.sleep(POLL_S)
    missing = [each.name for each in health(home) if not each.ready]
    raise Unavailable(f"not ready after {READY_S:.0f} s: {', '.join(missing)}; see {home.logs}")


def _is_ready(program: Program) -> bool:
    if program.ready_url is None:
        return True
    try:
        return httpx.get(program.ready_url, timeout=2.0).status_code == httpx.codes.OK
    except httpx.HTTPError:
        return False


def _state(home: Home) -> _State | None:
    try:
        return _State(**json.loads(home.state.read_text()))
    except FileNotFoundError:
        return None


def _is_alive(pid: int) -> bool:
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)  # Where we started it ourselves, it stays a zombie until it is waited for.
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _end(pid: int) -> None:
    if _is_alive(pid):
        os.kill(pid, signal.SIGTERM)
