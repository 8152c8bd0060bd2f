"""Messages as events: each is read once by each way of reading, for all who hear it. What was read is frozen."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from libs.common.events.envelope import Envelope

Read = Callable[[Mapping[str, str], bytes], Envelope]


class Readings:
    """What was read in one run. A message that can't be read is tried, and fails, each time anew."""

    def __init__(self) -> None:
        self._read: dict[tuple[Read, bytes, tuple[tuple[str, str], ...]], Envelope] = {}

    def by(self, read: Read) -> Read:
        """The same way of reading, without reading again what it read before."""

        def once(headers: Mapping[str, str], body: bytes) -> Envelope:
            said = (read, body, tuple(headers.items()))
            found = self._read.get(said)
            if found is None:
                found = self._read[said] = read(headers, body)
            return found

        return once
