"""How records are shown outside: frozen, and with times that people and programs read alike."""

from __future__ import annotations

from datetime import UTC, datetime

from pydantic import BaseModel, ConfigDict


class View(BaseModel):
    """A record of the HTTP contract. Times are RFC 3339 in UTC."""

    model_config = ConfigDict(frozen=True)


def rfc3339(at_ms: int) -> str:
    """Epoch milliseconds as people and programs exchange them."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def rfc3339_or_none(at_ms: int | None) -> str | None:
    """The same of a time that there may be."""
    return None if at_ms is None else rfc3339(at_ms)
