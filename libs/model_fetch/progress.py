"""How far a fetch is: counted by its threads, said once a second as a line of JSON, left on the volume for others."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Final

SAY_EVERY_S: Final = 1.0


class Progress:
    """Bytes of the whole that are on the volume and right, as far as is known."""

    def __init__(self, bytes_total: int, say: Callable[[str], None], every_s: float = SAY_EVERY_S) -> None:
        self.bytes_total = bytes_total
        self.bytes_fetched = 0  # From the source, by this process.
        self.bytes_kept = 0  # Found on the volume.
        self.state = "starting"
        self._elsewhere_bytes = 0
        self._say = say
        self._every_s = every_s
        self._began_s = time.monotonic()
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="progress", daemon=True)

    def __enter__(self) -> Progress:
        """Begin to say it."""
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, wrong: BaseException | None, at: TracebackType | None) -> None:
        """Say no more."""
        self._ended.set()
        self._thread.join()

    def fetched(self, count_bytes: int) -> None:
        """So many came from the source."""
        with self._lock:
            self.bytes_fetched += count_bytes

    def kept(self, count_bytes: int) -> None:
        """So many were there, and are right."""
        with self._lock:
            self.bytes_kept += count_bytes

    def waits_for(self, said: str) -> None:
        """Another process brings the same model: how far it says it is."""
        with contextlib.suppress(ValueError, TypeError, AttributeError):
            self._elsewhere_bytes = int(json.loads(said or "{}").get("bytes_done", 0))

    def line(self, **more: object) -> str:
        """What is known now, in one line."""
        elapsed_s = time.monotonic() - self._began_s
        done = self._elsewhere_bytes if self.state == "waiting" else self.bytes_fetched + self.bytes_kept
        return json.dumps(
            {
                "state": self.state,
                "bytes_done": min(self.bytes_total, done),
                "bytes_total": self.bytes_total,
                "bytes_fetched": self.bytes_fetched,
                "elapsed_ms": round(1000 * elapsed_s),
                **more,
            }
        )

    def _run(self) -> None:
        self._say(self.line())
        while not self._ended.wait(self._every_s):
            self._say(self.line())
