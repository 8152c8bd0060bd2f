"""A promise that something is on disk: kept or broken once, for one who waits in callbacks or in a thread."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Final

from libs.common.errors import Unavailable

Then = Callable[[BaseException | None], None]


class Durable:
    """Lighter than a `Future`, of which every request would need two: no lock, one listener.

    It is kept where its listener lives, in the event loop; `wait` is for threads that have none.
    """

    __slots__ = ("_error", "_event", "_is_settled", "_then")

    def __init__(self) -> None:
        self._is_settled = False
        self._error: BaseException | None = None
        self._then: Then | None = None
        self._event: threading.Event | None = None

    def then(self, told: Then) -> None:
        """Call ``told`` with None when it is kept or with what broke it; at once if that is known."""
        assert self._then is None, "one listener"
        if self._is_settled:
            told(self._error)
        else:
            self._then = told

    def settle(self, error: BaseException | None = None) -> None:
        """It is kept, or broken by ``error``."""
        self._error = error
        self._is_settled = True
        if self._event is not None:
            self._event.set()
        if self._then is not None:
            self._then(error)

    def wait(self, within_s: float) -> None:
        """Return when it is kept. Raises what broke it; Unavailable if nothing is known in time."""
        self._event = threading.Event()
        if not self._is_settled and not self._event.wait(within_s):
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


def tell(waiters: Iterable[Durable], error: BaseException | None) -> None:
    """All of them are kept, or broken by ``error``."""
    for each in waiters:
        each.settle(error)


_KEPT: Final = Durable()
_KEPT.settle()
