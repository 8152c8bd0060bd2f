"""Room on the disk for a benchmark: bounded, and given back however the benchmark ends."""

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
UNTIL_WE_END: Final = 'cat > /dev/null; rm -rf -- "$0"'  # The pipe ends with us, also if somebody kills us.


class NoRoom(Exception):
    """The disk is fuller than the benchmark may make it."""


@contextmanager
def a_room() -> Iterator[Path]:
    """A directory below TMPDIR that is gone afterwards, whoever ends this process by whatever means."""
    directory = tempfile.mkdtemp(prefix="mr-bench-")
    remover = subprocess.Popen(
        ["/bin/sh", "-c", UNTIL_WE_END, directory], stdin=subprocess.PIPE, start_new_session=True
    )
    try:
        yield Path(directory)
    finally:
        remover.communicate()


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
