"""When a controller must look again."""

from __future__ import annotations


class Due:
    """Collects times; the earliest counts."""

    def __init__(self) -> None:
        self.at_ms: int | None = None

    def at(self, when_ms: int | None) -> None:
        """Look again at that time; None asks for nothing."""
        if when_ms is not None and (self.at_ms is None or when_ms < self.at_ms):
            self.at_ms = when_ms
