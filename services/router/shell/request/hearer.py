"""Who hears what an engine says, whichever of its replicas that is."""

from __future__ import annotations

from typing import Protocol

from services.router.shell.engines.target import Seat


class Hearer(Protocol):
    """Who hears what the engine says."""

    def answer_begins(self) -> None:
        """Status 200, and the kind of content that was asked for."""

    def answer_continues(self, data: bytes) -> None:
        """More of the body."""

    def answer_ends(self) -> None:
        """The body is whole."""

    def answer_is(self, body: bytes) -> None:
        """The body is whole, and all that came."""

    def engine_refused(self, status: int, body: bytes) -> None:
        """The engine says that the request is at fault."""

    def engine_failed(self, reason: str) -> None:
        """No answer, or none to its end; it was tried as often as it may be."""

    def forget_answer(self) -> bool:
        """Its engine went: begin anew with the next one. False if the client has some of the answer already."""

    def replica_went(self, seat: Seat, since_s: float) -> None:
        """Nor is there another now; this is so since the first one went. It may be seated anew."""
