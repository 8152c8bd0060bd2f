"""One file of the usage journal's log: written through memory, so that a record costs no call into the kernel.

What was appended survives the death of this process at once (the kernel has it), and the machine's after `sync`. The
file is written full of zeros first: then a record never needs room on the disk, and `sync` writes data and no metadata.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from libs.common.errors import Rejected, Unavailable
from libs.common.units import KIB

FRAME: Final = struct.Struct("<II")  # Length and CRC-32 of what follows; a length of 0 is the end.
FRAME_BYTES: Final = FRAME.size
ZEROS: Final = bytes(64 * KIB)  # A file's worth at once would stay with the allocator.


class Segment:
    """A file of records. Not thread-safe but for `sync`."""

    def __init__(self, path: Path, *, size_bytes: int) -> None:
        self.path = path
        self.size_bytes = size_bytes
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            _fill(self._file, size_bytes)
            self._map = mmap.mmap(self._file, size_bytes)
        except OSError:
            self.discard()
            raise
        self._left_bytes = self._seen_bytes = size_bytes

    def append(self, record: bytes) -> bool:
        """Add a record if it fits, and the end after it; one that is cut short by our death is not read."""
        length = len(record)
        left_bytes = self._left_bytes - FRAME_BYTES - length
        if left_bytes < FRAME_BYTES:
            return False
        self._map.write(FRAME.pack(length, zlib.crc32(record)) + record)
        self._left_bytes = left_bytes
        return True

    @property
    def is_dirty(self) -> bool:
        """Whether there is something that the one who syncs has not seen."""
        return self._left_bytes != self._seen_bytes

    def note_seen(self) -> None:
        """The one who syncs begins to."""
        self._seen_bytes = self._left_bytes

    def shut(self) -> None:
        """Nothing more fits."""
        self._left_bytes = self._seen_bytes = 0

    def sync(self) -> None:
        """Have the disk hold what was appended. Raises OSError; what it holds then, nobody knows."""
        os.fdatasync(self._file)

    def unmap(self) -> None:
        """Nothing more is appended: what was, the kernel has."""
        self._map.close()

    def rename(self, path: Path) -> None:
        """Call the file by another name."""
        self.path = self.path.rename(path)

    def close(self) -> None:
        """Give the file back, and keep it."""
        self._map.close()
        os.close(self._file)

    def discard(self) -> None:
        """Remove the file; nobody needs its records any more."""
        self.path.unlink(missing_ok=True)
        if hasattr(self, "_map"):
            self._map.close()
        os.close(self._file)


def records(path: Path) -> Iterator[bytes]:
    """What a file holds, up to the first record that is torn."""
    content, at = path.read_bytes(), 0
    while at + FRAME.size <= len(content):
        length, crc = FRAME.unpack_from(content, at)
        record = content[at + FRAME.size : at + FRAME.size + length]
        if length == 0 or len(record) < length or zlib.crc32(record) != crc:
            return
        yield record
        at += FRAME.size + length


def _fill(file: int, size_bytes: int) -> None:
    while size_bytes:
        size_bytes -= os.write(file, ZEROS[:size_bytes])
    os.fdatasync(file)


def only_one(path: Path) -> int:
    """Hold the journal against a second process. Raises Rejected if there is one, Unavailable if the disk says no."""
    try:
        guard = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as wrong:
        raise Unavailable(f"can not open the usage journal {path}: {wrong.strerror}") from wrong
    try:
        fcntl.flock(guard, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as held:
        os.close(guard)
        raise Rejected(f"another process writes the usage journal {path}: set MILLRACE_USAGE_DB") from held
    return guard
