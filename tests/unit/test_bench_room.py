"""A benchmark's room, also of one that is killed."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

ENDS_S = 60.0
KILLED = """
import os, signal, subprocess, sys, tempfile
from tests.bench.room import a_room
with a_room() as directory:
    below = tempfile.mkdtemp()
    quiet = subprocess.Popen(["sleep", "600"], stdout=subprocess.DEVNULL, start_new_session=True)
    with open(below + "/log", "w") as log:
        bare = subprocess.Popen(["sleep", "600"], stdout=log, env={}, start_new_session=True)
    print(directory, below, quiet.pid, bare.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def runs(pid: str) -> bool:
    try:
        return bool(Path(f"/proc/{pid}/cmdline").read_bytes())  # Empty of one that ended.
    except OSError:
        return False


def test_a_killed_benchmark_leaves_no_process_and_no_file() -> None:
    said = subprocess.run([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True, check=False).stdout
    directory, below, *started = said.split()
    assert Path(below).parent == Path(directory)

    deadline_s = time.monotonic() + ENDS_S
    while time.monotonic() < deadline_s and (any(map(runs, started)) or Path(directory).exists()):
        time.sleep(0.05)

    assert len(started) == 2
    assert not any(map(runs, started))
    assert not Path(directory).exists()
