"""Room for a benchmark: on the disk, bounded; and that it leaves nothing there nor running, however it ends."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

DISK_GIB: Final = 58  # What one ledger may take at most, unless MILLRACE_BENCH_DISK_GIB says otherwise.
SPARE_BYTES: Final = 4 << 30  # Left free for others, always.
# The pipe ends with us, also if somebody kills us. What we started has our TMPDIR, and so has what that started; some
# write their title over that (nginx, vllm-router), but have a file open below it.
UNTIL_WE_END: Final = """
cat > /dev/null
us=$1
ours() {
    { grep -lzxF -- "TMPDIR=$0" /proc/[0-9]*/environ; find /proc/[0-9]*/fd -lname "$0/*"; } 2> /dev/null |
        cut -d / -f 3 | sort -u | grep -vx "$us"
}
for signal in TERM KILL; do
    for look in $(seq 100); do
        left=$(ours)
        test "$left" || break 2
        test "$look" = 1 && kill -$signal $left 2> /dev/null
        sleep 0.1
    done
done
rm -rf -- "$0"
"""


class NoRoom(Exception):
    """The disk is fuller than the benchmark may make it."""


@contextmanager
def a_room() -> Iterator[Path]:
    """A directory that is TMPDIR meanwhile. It is gone afterwards, and so is every process that was started in it,
    whoever ends this one by whatever means.
    """
    before = tempfile.gettempdir()
    directory = tempfile.mkdtemp(prefix="mr-bench-")
    Path(directory).chmod(0o711)  # PostgreSQL runs as somebody else, in a directory of its own below.
    sweeper = subprocess.Popen(
        ["/bin/sh", "-c", UNTIL_WE_END, directory, str(os.getpid())], stdin=subprocess.PIPE, start_new_session=True
    )
    os.environ["TMPDIR"] = tempfile.tempdir = directory
    try:
        yield Path(directory)
    finally:
        os.environ["TMPDIR"] = tempfile.tempdir = before
        sweeper.communicate()


def most_bytes() -> int:
    """How much may be written below TMPDIR now."""
    allowed_bytes = int(os.environ.get("MILLRACE_BENCH_DISK_GIB", DISK_GIB)) << 30
    return min(allowed_bytes, shutil.disk_usage(tempfile.gettempdir()).free - SPARE_BYTES)


def refuse_full(used_bytes: int) -> None:
    """Raises NoRoom if what a ledger takes is more than it may, or the disk is full for others too."""
    allowed_bytes = int(os.environ.get("MILLRACE_BENCH_DISK_GIB", DISK_GIB)) << 30
    free_bytes = shutil.disk_usage(tempfile.gettempdir()).free
    if used_bytes > allowed_bytes or free_bytes < SPARE_BYTES // 2:
        raise NoRoom(f"{used_bytes / 2**30:,.1f} GiB are used, {free_bytes / 2**30:,.1f} GiB are free")
