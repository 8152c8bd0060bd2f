"""What `/v1/models` says: the endpoints of a project under the names that clients ask for, adapters among them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import msgspec

from libs.common.events.tables import RouteEntry
from services.router.core.refusals import model_not_found


def names_of(entry: RouteEntry) -> Iterator[str]:
    """What clients may put into `model` for this endpoint."""
    yield entry.name
    for adapter in sorted({*entry.adapters, *(each for replica in entry.replicas for each in replica.adapters)}):
        yield f"{entry.name}/{adapter}"


def models_body(entries: Iterable[RouteEntry]) -> bytes:
    """The answer to ``GET /v1/models``."""
    data = [_model(entry, name) for entry in sorted(entries, key=lambda each: each.name) for name in names_of(entry)]
    return msgspec.json.encode({"object": "list", "data": data})


def model_body(entry: RouteEntry | None, name: str) -> bytes:
    """The answer to ``GET /v1/models/<name>``. Raises HttpRefusal if there is none."""
    if entry is None or entry.paused or name not in names_of(entry):
        raise model_not_found(name)
    return msgspec.json.encode(_model(entry, name))


def _model(entry: RouteEntry, name: str) -> dict[str, str | int]:
    return {
        "id": name,
        "object": "model",
        "created": entry.published_at_ms // 1000,
        "owned_by": entry.tenant_id,
    }
