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
        self._unsent: dict[str, bytes] = {}
        self._sent: dict[str, tuple[bytes, int]] = {}  # With when that was (ms); the one sent first at the front.

    def __len__(self) -> int:
        """How many rows there are."""
        return len(self._unsent) + len(self._sent)

    def add(self, request_id: str, row: bytes) -> None:
        """A request is over."""
        self._unsent[request_id] = row

    def due(self, *, sent_before_ms: int, limit: int) -> dict[str, bytes]:
        """Rows that were never sent, or last before then."""
        again = itertools.takewhile(lambda each: each[1][1] < sent_before_ms, self._sent.items())
        found = {request_id: row for request_id, (row, _) in itertools.islice(again, limit)}
        found.update(itertools.islice(self._unsent.items(), limit - len(found)))
        return found

    def mark_sent(self, request_ids: Iterable[str], *, now_ms: int) -> None:
        """The bus has these."""
        unsent, sent = self._unsent, self._sent
        for each in request_ids:
            row = unsent.pop(each, None)
            if row is None and each in sent:
                row, _ = sent.pop(each)
            if row is not None:
                sent[each] = (row, now_ms)

    def forget(self, request_ids: Iterable[str]) -> set[str]:
        """Which of these there were; there are none now."""
        unsent, sent = self._unsent, self._sent
        return {each for each in request_ids if sent.pop(each, None) or unsent.pop(each, None)}

    def ids(self) -> tuple[str, ...]:
        """All of them."""
        return (*self._sent, *self._unsent)

    def rows(self, request_ids: Sequence[str]) -> list[tuple[str, str, int | None]]:
        """Of those that are here: id, JSON, when it was last sent."""
        found: list[tuple[str, str, int | None]] = []
        for each in request_ids:
            row, sent_ms = self._sent.get(each) or (self._unsent.get(each), None)
            if row is not None:
                found.append((each, row.decode(), sent_ms))
        return found
