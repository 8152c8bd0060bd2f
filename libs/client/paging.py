"""Lists that are told a page at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from libs.client.transport import Json, Transport


def pages(transport: Transport, path: str, query: Mapping[str, object]) -> Iterator[Json]:
    """All items of a list, read a page at a time."""
    cursor: str | None = None
    while True:
        page = transport.call("GET", path, query={**query, "cursor": cursor})
        yield from page["items"]
        cursor = page.get("next_cursor")
        if cursor is None:
            return
