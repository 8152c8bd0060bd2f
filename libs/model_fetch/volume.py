"""A volume with models on it: where each is, who may write, what of an unfinished one is there and right.

sha256-<digest>/          a model, whole: it gets this name in one step, when every file of it was verified
.partial-<digest>/        one that is being brought
.journal-<digest>         which spans of its files were written, and the sha256 of each
.verified-<digest>        size and time of each file when it was last verified
.lock-<digest>            held by the process that writes; the kernel lets go of it with the process
.progress-<digest>        what that process last said
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from libs.model_fetch.manifest import File, Manifest

LOCK_POLL_S: Final = 0.5
HASH_BLOCK_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a file."""

    path: str
    start: int
    end: int


@dataclass(slots=True)
class Volume:
    """One model on one volume."""

    root: Path
    manifest: Manifest
    _appending: threading.Lock = field(default_factory=threading.Lock)

    @property
    def whole(self) -> Path:
        """Where the model is when it is there."""
        return self.root / self._name("sha256")

    @property
    def partial(self) -> Path:
        """Where it is until then."""
        return self.root / self._name(".partial")

    @contextlib.contextmanager
    def locked(self, waiting: Callable[[str], None]) -> Iterator[None]:
        """Be the only one that writes this model; while another is, ``waiting`` gets what that one says."""
        self.root.mkdir(parents=True, exist_ok=True)
        lock = os.open(self.root / self._name(".lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            while not _is_taken(lock):
                waiting(self._read(".progress"))
                time.sleep(LOCK_POLL_S)
            yield
        finally:
            os.close(lock)

    def say(self, line: str) -> None:
        """Leave a line for those who wait; a full disk says so where it matters."""
        with contextlib.suppress(OSError):
            self._replace(".progress", line)

    def is_whole(self) -> bool:
        """Whether the model is there and right: a file that changed since it was verified is read again."""
        if not self.whole.is_dir():
            return False
        try:
            seen = json.loads(self._read(".verified") or "{}")
        except ValueError:
            seen = {}
        marks = {each.path: _mark(self.whole / each.path) for each in self.manifest.files}
        changed = [
            each for each in self.manifest.files if marks[each.path] is None or seen.get(each.path) != marks[each.path]
        ]
        wrong = [each for each in changed if digest_of(self.whole / each.path, each) != each.sha256]
        if not wrong:
            self._replace(".verified", json.dumps(marks))
            return True
        self._take_apart(wrong)
        return False

    def present(self, file: File) -> tuple[Span, ...]:
        """The spans of an unfinished file that are there, read and found right."""
        path = self.partial / file.path
        if not path.is_file() or path.stat().st_size > file.size_bytes:
            return ()
        spans = self._spans(file)
        if not spans and digest_of(path, file) == file.sha256:
            return (Span(file.path, 0, file.size_bytes),)
        with path.open("rb", buffering=0) as opened:
            return tuple(span for span, sha256 in spans if _hash(opened.fileno(), span.start, span.end) == sha256)

    def open(self, file: File) -> int:
        """A descriptor to write a file with."""
        path = self.partial / file.path
        path.parent.mkdir(parents=True, exist_ok=True)
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)

    def note(self, span: Span, sha256: str) -> None:
        """Remember that a span was written, for a later try."""
        line = f"{span.path} {span.start} {span.end} {sha256}\n".encode()
        with self._appending:
            journal = os.open(self.root / self._name(".journal"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                os.write(journal, line)
            finally:
                os.close(journal)

    def discard(self, file: File) -> None:
        """Forget a file that is wrong, so that the next try begins it anew."""
        (self.partial / file.path).unlink(missing_ok=True)
        with self._appending:
            kept = [line for line in self._lines() if not line.startswith(f"{file.path} ")]
            self._replace(".journal", "".join(f"{line}\n" for line in kept))

    def missing_bytes(self, file: File) -> int:
        """What an unfinished file still takes of the disk."""
        with contextlib.suppress(FileNotFoundError):
            return max(0, file.size_bytes - (self.partial / file.path).stat().st_blocks * 512)
        return file.size_bytes

    def commit(self) -> None:
        """Give the model its name: from now on it is there, whole, also after a loss of power."""
        for each in self.manifest.files:
            _sync(self.partial / each.path)
        for directory in sorted({(self.partial / each.path).parent for each in self.manifest.files}):
            _sync(directory)
        marks = {each.path: _mark(self.partial / each.path) for each in self.manifest.files}
        self._replace(".verified", json.dumps(marks))
        self.partial.rename(self.whole)
        _sync(self.root)
        for name in (".journal", ".progress"):
            (self.root / self._name(name)).unlink(missing_ok=True)

    def _take_apart(self, wrong: list[File]) -> None:
        """A model that is no longer right is unfinished: its good files are kept."""
        for each in wrong:
            (self.whole / each.path).unlink(missing_ok=True)
        shutil.rmtree(self.partial, ignore_errors=True)
        (self.root / self._name(".journal")).unlink(missing_ok=True)
        self.whole.rename(self.partial)

    def _spans(self, file: File) -> list[tuple[Span, str]]:
        found: dict[Span, str] = {}
        for line in self._lines():
            path, _, rest = line.partition(" ")
            parts = rest.split(" ")
            if path == file.path and len(parts) == 3 and parts[0].isdecimal() and parts[1].isdecimal():
                found[Span(path, int(parts[0]), int(parts[1]))] = parts[2]
        return [(span, sha256) for span, sha256 in found.items() if span.start < span.end <= file.size_bytes]

    def _lines(self) -> list[str]:
        return self._read(".journal").splitlines()

    def _read(self, name: str) -> str:
        try:
            return (self.root / self._name(name)).read_text(errors="replace")
        except FileNotFoundError:
            return ""

    def _replace(self, name: str, text: str) -> None:
        path = self.root / self._name(name)
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        draft.write_text(text)
        draft.replace(path)

    def _name(self, kind: str) -> str:
        return f"{kind}-{self.manifest.digest.removeprefix('sha256:')}"


def digest_of(path: Path, file: File) -> str:
    """The sha256 of a file; empty if it is not there or not as large as it should be."""
    try:
        with path.open("rb", buffering=0) as opened:
            size = os.fstat(opened.fileno()).st_size
            return _hash(opened.fileno(), 0, size) if size == file.size_bytes else ""
    except (FileNotFoundError, NotADirectoryError):
        return ""


def _hash(descriptor: int, start: int, end: int) -> str:
    found = hashlib.sha256()
    while start < end:
        block = os.pread(descriptor, min(HASH_BLOCK_BYTES, end - start), start)
        if not block:
            return ""
        found.update(block)
        start += len(block)
    return found.hexdigest()


def _mark(path: Path) -> list[int] | None:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        found = path.stat()
        return [found.st_size, found.st_mtime_ns]
    return None


def _is_taken(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
