"""Finished requests in memory: which the bus never had, and when it had the others. The one who holds it locks it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import Final

import msgspec


class _Named(msgspec.Struct):
    request_id: str


_NAMED: Final = msgspec.json.Decoder(_Named)


def request_id_of(row: bytes) -> str:
    """Whose row it is."""
    return _NAMED.decode(row).request_id


class Finished:
    """Rows by request id, oldest first; to ask what is due costs no more than what it gives."""

    def __init__(self) -> None:
        self._rows: dict[str, bytes] = {}
        self._unsent: dict[str, None] = {}
        self._sent_ms: dict[str, int] = {}  # The one sent first at the front.

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self._rows)

    def add(self, request_id: str, row: bytes) -> None:
        """A request is over."""
        self._rows[request_id] = row
        self._unsent[request_id] = None

    def due(self, *, sent_before_ms: int, limit: int) -> list[bytes]:
        """Rows that were never sent, or last before then."""
        again = itertools.takewhile(lambda each: self._sent_ms[each] < sent_before_ms, self._sent_ms)
        return [self._rows[each] for each in itertools.islice(itertools.chain(again, self._unsent), limit)]

    def mark_sent(self, request_ids: Iterable[str], *, now_ms: int) -> None:
        """The bus has these."""
        for each in request_ids:
            if each in self._rows:
                self._unsent.pop(each, None)
                self._sent_ms.pop(each, None)
                self._sent_ms[each] = now_ms

    def forget(self, request_id: str) -> bool:
        """Whether there was such a row; there is none now."""
        self._unsent.pop(request_id, None)
        self._sent_ms.pop(request_id, None)
        return self._rows.pop(request_id, None) is not None

    def ids(self) -> tuple[str, ...]:
        """All of them, oldest first."""
        return tuple(self._rows)

    def rows(self, request_ids: Sequence[str]) -> list[tuple[str, str, int | None]]:
        """Of those that are here: id, JSON, when it was last sent."""
        return [
            (each, self._rows[each].decode(), self._sent_ms.get(each)) for each in request_ids if each in self._rows
        ]
