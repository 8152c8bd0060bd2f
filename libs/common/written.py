"""States as JSON, both ways: a state is read for each event and each look, and is mostly what was written last."""

from __future__ import annotations

import threading
from collections import OrderedDict
from functools import cache
from typing import Final, Generic, TypeVar

from pydantic import TypeAdapter

S = TypeVar("S")

STATES_MAX: Final = 256  # Kept by their text, of one kind; those that were asked for last.


@cache
def _codec(state: type[S]) -> TypeAdapter[S]:
    return TypeAdapter(state)


class Written(Generic[S]):
    """States of one kind and their text. What was written or read lately is at hand, whatever thread asks."""

    def __init__(self, state: type[S]) -> None:
        self._codec: TypeAdapter[S] = _codec(state)  # type: ignore[arg-type]  # A class is hashable.
        self._states: OrderedDict[bytes, S] = OrderedDict()
        self._lock = threading.Lock()

    def text(self, state: S) -> bytes:
        """The state as JSON. Whoever reads that gets this very state, which is frozen as all records are."""
        text = self._codec.dump_json(state)
        self._keep(text, state)
        return text

    def state(self, text: bytes) -> S:
        """The state that a text says. Raises pydantic's ValidationError where it says none."""
        with self._lock:
            state = self._states.get(text)
            if state is not None:
                self._states.move_to_end(text)
                return state
        state = self._codec.validate_json(text)
        self._keep(text, state)
        return state

    def _keep(self, text: bytes, state: S) -> None:
        with self._lock:
            self._states[text] = state
            self._states.move_to_end(text)
            if len(self._states) > STATES_MAX:
                self._states.popitem(last=False)
