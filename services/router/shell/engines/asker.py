"""Who waits for the answer on a connection."""

from __future__ import annotations

from typing import Final, Protocol


class Asker(Protocol):
    """Who waits for an engine's answer."""

    def upstream_head(self, status: int, content_type: bytes) -> None:
        """The answer begins."""

    def upstream_body(self, data: bytes) -> None:
        """More of it."""

    def upstream_complete(self) -> None:
        """All of it came; the connection is no longer the asker's."""

    def upstream_whole(self, content_type: bytes, body: bytes) -> None:
        """A good answer came, all of it at once; the connection is no longer the asker's."""

    def upstream_lost(self, reason: str) -> None:
        """The connection broke; nothing more will come."""

    def upstream_broken(self, reason: str) -> None:
        """What came is not HTTP; nothing more is read."""


class Nobody:
    """Hears the rest of an answer whose end is known."""

    def upstream_head(self, status: int, content_type: bytes) -> None:
        """Not heard."""

    def upstream_body(self, data: bytes) -> None:
        """Not heard."""

    def upstream_complete(self) -> None:
        """Not heard."""

    def upstream_whole(self, content_type: bytes, body: bytes) -> None:
        """Not heard."""

    def upstream_lost(self, reason: str) -> None:
        """Not heard."""

    def upstream_broken(self, reason: str) -> None:
        """Not heard."""


NOBODY: Final = Nobody()
