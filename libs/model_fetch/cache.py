"""A volume as a cache of models: what is on it, when each was last used, by whom it is held, and making room.

.cached-<digest>          what a model takes when it is whole, and when it was last used
.use-<digest>             held, shared, by each pod that has the model mounted; a kill lets go of it
.lock-cache               held while room is made, so that no two count the same room
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from libs.common.clock import Clock
from libs.model_fetch.eviction import MODELS_MAX, Cached, Need, Policy, to_evict
from libs.model_fetch.reasons import FetchFailed, Reason

WHOLE: Final = "sha256-"
PARTIAL: Final = ".partial-"
MARK: Final = ".cached-"
USE: Final = ".use-"
LOCK: Final = ".lock-"
GOING: Final = ".going-"
LEFT_BEHIND: Final = (".journal-", ".verified-", ".progress-", MARK)
TRIES_MAX: Final = 3  # What is to go may come into use while room is made; then others go.
HELD_WITHIN_S: Final = 60.0  # The holder was started before the fetch was.
HELD_POLL_S: Final = 0.1


class Cache:
    """All models on one volume."""

    def __init__(self, root: Path, clock: Clock) -> None:
        self._root = root
        self._clock = clock

    def models(self) -> tuple[Cached, ...]:
        """What is there, whole or not, by digest."""
        found: dict[str, Cached] = {}
        for prefix in (PARTIAL, WHOLE):
            for path in self._root.glob(f"{prefix}*"):
                each = self._cached(path, path.name.removeprefix(prefix), is_whole=prefix == WHOLE)
                found[each.digest] = each
        return tuple(found[digest] for digest in sorted(found))

    def expect(self, digest: str, size_bytes: int, missing_bytes: int, policy: Policy | None) -> None:
        """Have room for a model that is to come, by the policy if there is one. Raises FetchFailed if there is none.

        Whoever calls holds the model's own lock.
        """
        with self._locked():
            self._sweep()
            if policy is None:
                self._check_disk(missing_bytes)
            else:
                self._make_room(digest, size_bytes, missing_bytes, policy)
            self._mark(digest, size_bytes)

    def use(self, digest: str, size_bytes: int) -> dict[str, object]:
        """Note that a replica begins with a model; what is in the cache from then on, as the fetch's last line has it.

        `at_ms` grows from each use of a cache to the next.
        """
        with self._locked():
            at_ms = self._mark(digest, size_bytes)
            whole = sorted((each for each in self.models() if each.is_whole), key=lambda each: -each.used_ms)
            listed = {each.digest: each.size_bytes for each in whole[:MODELS_MAX]}
            return {"digest": digest, "at_ms": at_ms, "models": listed, "left_out": len(whole) - len(listed)}

    def _make_room(self, digest: str, size_bytes: int, missing_bytes: int, policy: Policy) -> None:
        for _ in range(TRIES_MAX):
            others = tuple(each for each in self.models() if each.digest != digest)
            going = to_evict(others, Need(size_bytes, missing_bytes, self._free_bytes()), policy)
            if going is None:
                raise FetchFailed(Reason.DISK_TOO_SMALL, self._no_room(others, size_bytes, policy))
            if all([self._evict(each) for each in going]):
                return
        raise FetchFailed(Reason.DISK_TOO_SMALL, "what was to be evicted comes into use again and again: try later")

    def _no_room(self, others: tuple[Cached, ...], size_bytes: int, policy: Policy) -> str:
        staying = [each for each in others if each.is_in_use or each.digest in policy.keep]
        held_bytes = sum(each.size_bytes for each in staying)
        return (
            f"the model takes {size_bytes} bytes, the cache may have {policy.capacity_bytes} and the disk has "
            f"{self._free_bytes()} free; {len(staying)} models of {held_bytes} bytes are in use or to be kept: "
            "raise the template's cache.capacity_gib, or keep fewer"
        )

    def _check_disk(self, missing_bytes: int) -> None:
        free_bytes = self._free_bytes()
        if missing_bytes > free_bytes:
            raise FetchFailed(
                Reason.DISK_TOO_SMALL,
                f"{missing_bytes} bytes are missing and the volume has {free_bytes} free: "
                "give it more, or evict a model",
            )

    def _evict(self, model: Cached) -> bool:
        """Take a model away, unless it is in use by now: whether it is gone."""
        name = model.digest.removeprefix("sha256:")
        with contextlib.ExitStack() as locks:
            if not all([locks.enter_context(_taken(self._root / f"{each}{name}")) for each in (LOCK, USE)]):
                return False
            for prefix in (WHOLE, PARTIAL):
                with contextlib.suppress(FileNotFoundError):
                    (self._root / f"{prefix}{name}").rename(self._root / f"{GOING}{prefix}{name}")
            for prefix in LEFT_BEHIND:
                (self._root / f"{prefix}{name}").unlink(missing_ok=True)
            self._sweep()
        return True

    def _sweep(self) -> None:
        """Delete what is on its way out, also what a fetch that was killed left there."""
        for each in self._root.glob(f"{GOING}*"):
            shutil.rmtree(each, ignore_errors=True)

    def _cached(self, path: Path, name: str, *, is_whole: bool) -> Cached:
        marked = self._marked(name)
        size_bytes, used_ms = marked if marked is not None else (_taken_bytes(path), _changed_ms(path))
        is_in_use = self._is_held(USE, name) or self._is_held(LOCK, name)
        if not is_whole and not is_in_use:
            size_bytes = _taken_bytes(path)  # Nobody brings the rest.
        return Cached(f"sha256:{name}", size_bytes, used_ms, is_in_use, is_whole)

    def _mark(self, digest: str, size_bytes: int) -> int:
        name = digest.removeprefix("sha256:")
        latest_ms = max((marked[1] for marked in map(self._marked, self._names()) if marked is not None), default=0)
        at_ms = max(self._clock.now_ms(), latest_ms + 1)
        path = self._root / f"{MARK}{name}"
        draft = path.with_name(f"{path.name}.{os.getpid()}")
        draft.write_text(json.dumps([size_bytes, at_ms]))
        draft.replace(path)
        return at_ms

    def _names(self) -> list[str]:
        return [each.name.removeprefix(MARK) for each in self._root.glob(f"{MARK}*") if "." not in each.name[1:]]

    def _marked(self, name: str) -> tuple[int, int] | None:
        try:
            size_bytes, used_ms = json.loads((self._root / f"{MARK}{name}").read_text())
            return int(size_bytes), int(used_ms)
        except (OSError, ValueError, TypeError):
            return None

    def _is_held(self, prefix: str, name: str) -> bool:
        path = self._root / f"{prefix}{name}"
        if not path.exists():
            return False
        with _taken(path) as is_taken:
            return not is_taken

    def _free_bytes(self) -> int:
        found = os.statvfs(self._root)
        return found.f_bavail * found.f_frsize

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with _opened(self._root / f"{LOCK}cache") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def await_holder(told: Path) -> None:
    """Wait until the pod's own holder has the model: nobody evicts it then. Raises FetchFailed if it never has."""
    for _ in range(round(HELD_WITHIN_S / HELD_POLL_S)):
        if told.exists():
            return
        time.sleep(HELD_POLL_S)
    raise FetchFailed(Reason.INVALID, f"the pod's model-hold did not take hold of the model in {HELD_WITHIN_S:.0f} s")


def hold(root: Path, digest: str) -> int:
    """Hold a model for as long as the process lives; the descriptor that does."""
    root.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(root / f"{USE}{digest.removeprefix('sha256:')}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


@contextlib.contextmanager
def _taken(path: Path) -> Iterator[bool]:
    """Have a lock for ourselves, if nobody has it."""
    with _opened(path) as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _taken_bytes(root: Path) -> int:
    return sum(each.stat().st_blocks * 512 for each in root.rglob("*") if each.is_file())


def _changed_ms(path: Path) -> int:
    return int(path.stat().st_mtime * 1000)
