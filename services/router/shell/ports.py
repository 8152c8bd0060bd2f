"""What the router needs of the world, as promises: its data plane, its usage journal, a store and a clock."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from libs.common.clock import Clock
from libs.common.events.tables import RouteEntry
from libs.common.store.port import Store
from services.router.core.limits import Grant, Limit, Refused
from services.router.core.outside import Sight
from services.router.core.serving import Row
from services.router.shell.journal.durable import Durable


class DataPlane(Protocol):
    """What serves requests, as the control half sees it. Called from any thread."""

    def held(self, endpoint_id: str) -> RouteEntry | None:
        """The route as its own table has it; None if no new request can reach the endpoint."""

    def is_lost(self, endpoint_id: str) -> bool:
        """Whether the bus lost the route that the table still has."""

    def live(self, endpoint_id: str) -> int:
        """How many requests of the endpoint are running. Read `held` first: what it no longer lets in can't begin."""

    def streams_cut(self, endpoint_id: str) -> int:
        """How many of them were ended by `cut` since this process began."""

    def cut(self, endpoint_id: str) -> None:
        """End the endpoint's running requests soon; each is billed for what was delivered. Safe to repeat."""


class Outside(Protocol):
    """The endpoint as a client far away meets it."""

    def look(self, entry: RouteEntry) -> Sight:
        """What a request without a key is answered, and one with; or what stands in their way. May take seconds."""


class UsageJournal(Protocol):
    """What was served and is not yet known to be in the ledger. Its rows survive the death of the process.

    1. What `begin`, `checkpoint` and `finish` wrote survives the death of this process when they return, and takes
       effect in the order of the calls. A `Durable` that is kept says: it, and all before it, survives the machine's.
    2. A row is live from `begin` to `finish`. `recover` bills the live rows of dead boots as they stand.
    3. A finished row leaves by `confirm` alone; until then `unconfirmed` gives it, again and again.
    4. Every method may be called from any thread.
    """

    def begin(self, row: Row) -> None:
        """A request is admitted; `row` is its bill if nothing more is heard of it. Raises Unavailable: not recorded."""

    def on_disk(self) -> Durable:
        """Kept when what was written so far is on disk."""

    def checkpoint(self, row: Row) -> None:
        """Replace the live row; without effect on one that is finished, or if it can't be written."""

    def finish(self, row: Row) -> Durable:
        """The request is over; `row` is its bill for good."""

    def recover(self) -> int:
        """Finish the live rows that other boots left, as they stand; returns how many."""

    def unconfirmed(self, *, sent_before_ms: int, limit: int) -> Mapping[str, bytes]:
        """Finished rows by request id, oldest first, that were never sent or last sent before ``sent_before_ms``.

        Each is the JSON of a `RequestUsage`, as it is reported (`store.read_rows` reads it).
        """

    def mark_sent(self, request_ids: Sequence[str], *, now_ms: int) -> None:
        """The bus has these."""

    def confirm(self, request_ids: Sequence[str]) -> int:
        """The ledger has these: forget them; returns how many there were."""

    def backlog(self) -> int:
        """How many finished rows wait for confirmation."""

    def close(self) -> None:
        """Finish what was asked for, then give the file back."""


class Limiter(Protocol):
    """What keeps the limits of a minute and at once: this process alone (core/limits.py), or all of them together."""

    def reserve(
        self, limits: Sequence[Limit], *, tokens: int, now_ms: int, least: int | None = None
    ) -> Grant | Refused:
        """Admit one request under all of ``limits``, or under none; of fewer tokens, but ``least``, if need be."""

    def settle(self, grant: Grant, *, tokens: int, now_ms: int) -> None:
        """The request is over and used ``tokens``. Called once for a grant."""


@dataclass(frozen=True, slots=True)
class Ports:
    """All of it."""

    store: Store
    clock: Clock
    data_plane: DataPlane
    outside: Outside
    journal: UsageJournal
    instance: str
    public_url: str
