"""The port to what really runs in a pod's main container."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from libs.twin.answers import Response


@dataclass(frozen=True, slots=True)
class Launch:
    """What to start: `argv` is complete; `key` names the run and is used once."""

    key: str
    image: str
    address: str
    port: int
    command: tuple[str, ...]  # Empty: the image's own.
    args: tuple[str, ...]
    env: Mapping[str, str]
    probe_path: str = ""  # Empty: healthy as soon as it runs.
    load_ms: int = 0
    tokens_per_second: float = 0.0
    log: str = ""  # A file for what it writes; empty: where its kind usually does.


@dataclass(frozen=True, slots=True)
class EngineProcess:
    """One thing that runs, for the inventory."""

    key: str
    pid: int
    address: str
    port: int


class Engines(Protocol):
    """Starts, watches and stops engines."""

    def is_free(self, address: str, port: int) -> bool:
        """Whether an engine could listen there."""

    def start(self, launch: Launch, now_ms: int) -> None:
        """Start; a failure to start shows as an exit code."""

    def stop(self, key: str, *, grace_ms: int, now_ms: int) -> None:
        """Ask it to end, and end it by force after the grace. Does not wait; a repeat does no harm."""

    def exit_code(self, key: str, now_ms: int) -> int | None:
        """How it ended; None while it runs. A key that was never started counts as ended with 0."""

    def is_healthy(self, key: str, now_ms: int) -> bool:
        """Whether its health path answers 200."""

    def forget(self, key: str) -> None:
        """Its run is over and nobody will ask again."""

    def next_look_ms(self, key: str, now_ms: int) -> int | None:
        """When something about it may have changed; None if nothing will by itself."""

    def take_changed(self) -> bool:
        """Whether, since the last call, something happened that `next_look_ms` had not foretold."""

    def http(self, key: str, method: str, path: str, headers: Mapping[str, str], body: bytes) -> Response:
        """Ask the engine over HTTP. Raises ApiError if it does not answer."""

    def running(self) -> tuple[EngineProcess, ...]:
        """Everything that runs now."""

    def volumes(self) -> Path | None:
        """Where the volumes of pods are on this machine; None where they are only told of."""

    def close(self) -> None:
        """End everything at once."""
