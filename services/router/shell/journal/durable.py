"""A promise that something is on disk: kept or broken once, for all who wait for it, in callbacks or in a thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from libs.common.errors import Unavailable

Then = Callable[[BaseException | None], None]


class Durable:
    """Lighter than a `Future`: no lock, and one for all who wait for the same sync.

    It is kept where its listeners live, in the event loop; `wait` is for threads that have none.
    """

    __slots__ = ("_error", "_is_settled", "_listeners")

    def __init__(self) -> None:
        self._is_settled = False
        self._error: BaseException | None = None
        self._listeners: list[Then] = []

    @property
    def waiting(self) -> int:
        """How many wait for it."""
        return len(self._listeners)

    def then(self, told: Then) -> None:
        """Call ``told`` with None when it is kept or with what broke it; at once if that is known."""
        if self._is_settled:
            told(self._error)
        else:
            self._listeners.append(told)

    def settle(self, error: BaseException | None = None) -> None:
        """It is kept, or broken by ``error``."""
        self._error = error
        self._is_settled = True
        for told in self._listeners:
            told(error)
        self._listeners.clear()

    def wait(self, within_s: float) -> None:
        """Return when it is kept. Raises what broke it; Unavailable if nothing is known in time."""
        event = threading.Event()
        self._listeners.append(lambda _error: event.set())
        if not self._is_settled and not event.wait(within_s):  # Listens first: it may be settled between the two.
            raise Unavailable("the usage journal does not answer")
        if self._error is not None:
            raise self._error


def kept() -> Durable:
    """One that is kept already."""
    return _KEPT


def broken(error: BaseException) -> Durable:
    """One that never will be."""
    failed = Durable()
    failed.settle(error)
    return failed


_KEPT: Final = Durable()
_KEPT.settle()
