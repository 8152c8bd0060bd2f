"""Brings one model onto a volume: several spans at once, each retried from where it broke, every file verified."""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from libs.model_fetch.cache import Cache, await_holder
from libs.model_fetch.eviction import Policy
from libs.model_fetch.manifest import File, Manifest, short
from libs.model_fetch.progress import Progress
from libs.model_fetch.readers import Reader
from libs.model_fetch.reasons import FetchFailed, Interrupted, Reason
from libs.model_fetch.volume import Span, Volume, digest_of

SPAN_BYTES: Final = 16 << 20  # Small enough that a kill costs little, large enough that a request costs nothing.
WORKERS: Final = 8  # One connection of an object store gives some 100 MB/s; eight fill a 10 Gbit/s link.
ATTEMPTS_MAX: Final = 6  # In a row without one byte: with the pauses between, about half a minute.
PAUSE_S: Final = 0.5
PAUSE_MAX_S: Final = 10.0

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard to try."""

    span_bytes: int = SPAN_BYTES
    workers: int = WORKERS
    attempts_max: int = ATTEMPTS_MAX
    pause_s: float = PAUSE_S


class Fetch:
    """One model, one source, one volume."""

    def __init__(
        self,
        volume: Volume,
        reader: Reader,
        progress: Progress,
        effort: Effort,
        *,
        cache: Cache,
        policy: Policy | None = None,
        held: Path | None = None,
    ) -> None:
        """``policy``: of the cache that the volume is, if it has one; ``held``: what the pod's holder writes."""
        self._volume = volume
        self._cache = cache
        self._policy = policy
        self._held = held
        self._reader = reader
        self._progress = progress
        self._effort = effort
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        self._left: Counter[str] = Counter()
        self._files: dict[str, File] = {each.path: each for each in volume.manifest.files}

    def run(self) -> dict[str, object]:
        """Have the model there, whole, verified and held; what is in the cache then, and whether it was there already.

        Raises FetchFailed.
        """
        manifest = self._volume.manifest
        try:
            with self._volume.locked(self._wait):
                was_there = self._run(manifest)
                listed = self._cache.use(manifest.digest, manifest.size_bytes)
                if self._held is not None:
                    await_holder(self._held)
                return {"cache": "hit" if was_there else "miss", **listed}
        except OSError as wrong:
            raise _of_disk(wrong) from wrong

    def _run(self, manifest: Manifest) -> bool:
        self._progress.state = "verifying"
        if self._volume.is_whole():
            self._progress.kept(manifest.size_bytes)
            return True
        self._make_room(manifest)
        missing = [span for spans in self._in_parallel(self._survey, manifest.files) for span in spans]
        self._left.update(each.path for each in missing)
        self._progress.state = "downloading"
        self._in_parallel(self._verify, [each for each in manifest.files if not self._left[each.path]])
        self._in_parallel(self._bring, missing)
        self._progress.state = "committing"
        self._volume.commit()
        return False

    def _wait(self, said: str) -> None:
        self._progress.state = "waiting"
        self._progress.waits_for(said)

    def _make_room(self, manifest: Manifest) -> None:
        self._volume.partial.mkdir(parents=True, exist_ok=True)
        missing_bytes = sum(self._volume.missing_bytes(each) for each in manifest.files)
        self._cache.expect(manifest.digest, manifest.size_bytes, missing_bytes, self._policy)

    def _survey(self, file: File) -> list[Span]:
        """The spans of a file that are still to be brought."""
        present = frozenset(self._volume.present(file))
        if Span(file.path, 0, file.size_bytes) in present:
            self._progress.kept(file.size_bytes)
            return []
        missing = [each for each in self._spans(file) if each not in present]
        self._progress.kept(file.size_bytes - sum(each.end - each.start for each in missing))
        return missing

    def _spans(self, file: File) -> Iterator[Span]:
        for start in range(0, file.size_bytes, self._effort.span_bytes):
            yield Span(file.path, start, min(file.size_bytes, start + self._effort.span_bytes))

    def _bring(self, span: Span) -> None:
        """Bring one span; who brings the last of a file verifies it."""
        file = self._files[span.path]
        self._volume.note(span, self._write(file, span))
        with self._lock:
            self._left[span.path] -= 1
            is_last = not self._left[span.path]
        if is_last:
            self._verify(file)

    def _write(self, file: File, span: Span) -> str:
        """Write a span, from where it broke if it breaks; the sha256 of what was written."""
        hashed, at, attempts = hashlib.sha256(), span.start, 0
        descriptor = self._volume.open(file)
        try:
            while at < span.end:
                before = at
                try:
                    for block in self._reader.read(file, at, span.end):
                        self._check_stopped()
                        _write_all(descriptor, block, at)
                        hashed.update(block)
                        at += len(block)
                        self._progress.fetched(len(block))
                except Interrupted as broken:
                    attempts = 1 if at > before else attempts + 1
                    self._pause(attempts, broken)
            return hashed.hexdigest()
        finally:
            os.close(descriptor)

    def _pause(self, attempts: int, broken: Interrupted) -> None:
        if attempts >= self._effort.attempts_max:
            raise FetchFailed(
                Reason.UNREACHABLE, f"{broken}; tried {attempts} times: check the source and the way to it"
            )
        self._stopped.wait(pause_s(attempts, broken, self._effort))
        self._check_stopped()

    def _verify(self, file: File) -> None:
        """Raises DigestMismatch, and forgets the file, if it is not what the manifest says."""
        if not file.size_bytes:
            os.close(self._volume.open(file))
        path = self._volume.partial / file.path
        found = digest_of(path, file)
        if found != file.sha256:
            self._volume.discard(file)
            what = (
                f"{file.path} is {short(found) if found else 'of another size'}, the manifest says {short(file.sha256)}"
            )
            raise FetchFailed(
                Reason.DIGEST_MISMATCH, f"{what}: the source is damaged, or the manifest is of another revision"
            )

    def _in_parallel(self, do: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """What ``do`` gives for each. The first that fails stops the rest, and is what is raised."""
        with ThreadPoolExecutor(self._effort.workers) as pool:
            tasks = [pool.submit(do, each) for each in items]
            done, _ = wait(tasks, return_when=FIRST_EXCEPTION)
            failed = [each for each in done if each.exception() is not None]
            if failed:
                self._stopped.set()
                for each in tasks:
                    each.cancel()
        wrong = [each for each in (task.exception() for task in failed) if each is not None]
        if wrong:
            raise min(
                wrong, key=lambda each: isinstance(each, Interrupted)
            )  # What stopped others, not who was stopped.
        return [each.result() for each in tasks]

    def _check_stopped(self) -> None:
        if self._stopped.is_set():
            raise Interrupted("another part failed")


def pause_s(attempts: int, broken: Interrupted, effort: Effort) -> float:
    """How long to wait before another try: longer each time, and no less than the source asks for."""
    return max(broken.retry_after_s, min(PAUSE_MAX_S, effort.pause_s * 2.0 ** (attempts - 1)))


def _write_all(descriptor: int, block: bytes, at: int) -> None:
    view = memoryview(block)
    while view:
        written = os.pwrite(descriptor, view, at)
        view, at = view[written:], at + written


def _of_disk(wrong: OSError) -> FetchFailed:
    if wrong.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return FetchFailed(
            Reason.DISK_TOO_SMALL, f"the volume is full ({wrong.strerror}): give it more, or evict a model"
        )
    what = f"the volume can't be used: {wrong.strerror or wrong}: {wrong.filename or ''}"
    if wrong.errno in (errno.EACCES, errno.EPERM):
        what += f": user {os.getuid()} must be able to write there; on a node, its image makes the directory so"
    return FetchFailed(Reason.INVALID, what)
