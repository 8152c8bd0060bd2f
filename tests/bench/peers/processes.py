"""Processes of a benchmark: started, waited for, pinned, and what they cost while they run."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

START_S: Final = 60.0  # The slowest peer imports for 20 s on a loaded machine.
STOP_S: Final = 20.0
CPUS: Final = os.sched_getaffinity(0)


@contextlib.contextmanager
def a_process(
    command: Sequence[str], log: Path, *, port: int, cpu: int | None = None, env: Mapping[str, str] | None = None
) -> Iterator[int]:
    """A process that listens on ``port``; its id."""

    with log.open("wb") as out:
        process = subprocess.Popen(
            command,
            env={**os.environ, **(env or {})},
            stdout=out,
            stderr=out,
            preexec_fn=partial(pin, cpu),
            start_new_session=True,
        )
    try:
        wait_for(process, port, log)
        yield process.pid
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def pin(cpu: int | None) -> None:
    """Have this process, and what it starts, run there alone, if there is such a core."""
    if cpu in CPUS:
        os.sched_setaffinity(0, {cpu})


@contextlib.contextmanager
def pinned(cpu: int) -> Iterator[None]:
    """Have what is started meanwhile run there alone."""
    pin(cpu)
    try:
        yield
    finally:
        os.sched_setaffinity(0, CPUS)


def wait_for(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Until something listens there."""
    deadline_s = time.monotonic() + START_S
    while True:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
            return
        assert process.poll() is None, log.read_text(errors="replace")[-2000:]
        assert time.monotonic() < deadline_s, f"nothing listens on {port}: {log.read_text(errors='replace')[-2000:]}"
        time.sleep(0.05)


def tree(pid: int) -> list[int]:
    """The process and all below it."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                children.setdefault(parent, []).append(int(entry.name))
    found = [pid]
    for each in found:
        found += children.get(each, [])
    return found


def cpu_us(pid: int) -> float:
    """Microseconds that the process tree was on a CPU, the kernel's part included."""
    total_ns = 0
    for each in tree(pid):
        for task in Path(f"/proc/{each}/task").glob("*/schedstat"):
            with contextlib.suppress(OSError):
                total_ns += int(task.read_text().split()[0])
    return total_ns / 1000


def memory_kib(pid: int) -> int:
    """Proportional set size of the process tree."""
    total_kib = 0
    for each in tree(pid):
        with contextlib.suppress(OSError):
            text = Path(f"/proc/{each}/smaps_rollup").read_text()
            total_kib += next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return total_kib
