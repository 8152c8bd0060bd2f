"""What a closed period says of a tenant, for ever: its own lines, and what came late for periods before it.

A statement is written once. The ledger goes on: an entry whose time lies in a closed period is in the ledger, at its
own time, and no total that was stated changes by it. The next statement finds the difference between what the ledger
has for an earlier period and all that was stated for it so far, and books it as a line that names the one it corrects.
So all statements together always add up to the ledger, as it was when the last of them was written.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import ClassVar, NamedTuple

from libs.common.decision import Decision
from libs.common.errors import Conflict
from libs.common.events.envelope import Envelope
from libs.common.events.event import Internal, Owner
from libs.common.store.port import Sum
from services.metering.core.periods import Books, Period


class Place(NamedTuple):
    """Where a quantity is in the ledger."""

    account: str
    meter: str
    labels: str


@dataclass(frozen=True, slots=True)
class StatedLine:
    """A quantity of a period. `corrects` is the id of the line of an earlier statement to which it is added."""

    id: str
    account: str
    meter: str
    labels: str
    quantity: int
    corrects: str = ""

    @property
    def place(self) -> Place:
        """Where it is in the ledger."""
        return Place(self.account, self.meter, self.labels)


@dataclass(frozen=True, slots=True)
class Statement:
    """A tenant's part of a closed period. `digest` covers all of it and, through `before`, all statements before."""

    key: str
    tenant: str = ""
    period: str = ""
    lines: tuple[StatedLine, ...] = ()
    before: str = ""
    digest: str = ""


class Stated(Internal):
    """The ledger was read for a statement; the journal keeps all of its lines."""

    kind: ClassVar[str] = "metering.stated"
    owner: ClassVar[Owner] = Owner.METERING

    tenant: str
    period: str
    before: str
    lines: tuple[StatedLine, ...]


class Closed(Internal):
    """Every tenant has its statement of the period."""

    kind: ClassVar[str] = "metering.closed"
    owner: ClassVar[Owner] = Owner.METERING

    period: Period


def decide_statement(statement: Statement, envelope: Envelope, _now_ms: int) -> Decision[Statement]:
    """Write a statement. One that is written stays, whatever the ledger says by now."""
    stated = envelope.data
    assert isinstance(stated, Stated), stated
    if statement.digest:
        return Decision(statement)
    digest = digest_of(stated.tenant, stated.period, stated.lines, stated.before)
    return Decision(Statement(statement.key, stated.tenant, stated.period, stated.lines, stated.before, digest))


def decide_books(books: Books, envelope: Envelope, _now_ms: int) -> Decision[Books]:
    """Note that a period is closed. Raises Conflict for one that does not follow the last."""
    closed = envelope.data
    assert isinstance(closed, Closed), closed
    if closed.period in books.closed:
        return Decision(books)
    if books.closed and closed.period.start_ms != books.closed[-1].end_ms:
        raise Conflict(f"{closed.period.name} does not follow {books.closed[-1].name}, which somebody else closed")
    return Decision(Books(books.key, (*books.closed, closed.period)))


def stated_lines(
    period: Period, sums: Iterable[Sum], earlier: Sequence[tuple[Period, Iterable[Sum], Iterable[Statement]]]
) -> tuple[StatedLine, ...]:
    """The lines of a tenant's statement: the period's own sums, then what earlier periods have by now beyond what
    their statement and the corrections since have said."""
    own = [StatedLine(line_id(period.name, place), *place, quantity) for place, quantity in placed(sums) if quantity]
    late: list[StatedLine] = []
    for other, now, statements in earlier:
        said = stated_for(other, statements)
        for place, quantity in placed(now, minus=said):
            if quantity:
                first = line_id(other.name, place)
                late.append(StatedLine(f"{period.name}+{first}", *place, quantity, corrects=first))
    return (*own, *late)


def stated_for(period: Period, statements: Iterable[Statement]) -> Mapping[Place, int]:
    """All that was said of a period so far: by its own statement, and by corrections in later ones."""
    said: dict[Place, int] = {}
    for statement in statements:
        for line in statement.lines:
            if (line.corrects or line.id).split("/", 1)[0] == period.name:
                said[line.place] = said.get(line.place, 0) + line.quantity
    return said


def placed(sums: Iterable[Sum], *, minus: Mapping[Place, int] | None = None) -> list[tuple[Place, int]]:
    """Quantities by place, in order of place; of those that are in ``minus`` the difference."""
    found = {place: -quantity for place, quantity in (minus or {}).items()}
    for each in sums:
        place = Place(each.account, each.meter, each.labels)
        found[place] = found.get(place, 0) + each.quantity
    return sorted(found.items())


def line_id(period: str, place: Place) -> str:
    """The id of a period's line: the same for the same place."""
    labels = hashlib.sha256(place.labels.encode()).hexdigest()[:12]
    return f"{period}/{place.account}/{place.meter}/{labels}"


def digest_of(tenant: str, period: str, lines: Iterable[StatedLine], before: str) -> str:
    """The hash over a statement and the digest of the one before."""
    content = [tenant, period, before, [asdict(each) for each in lines]]
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()


def broken(statements: Iterable[Statement]) -> tuple[str, ...]:
    """The keys of statements that are not what their digest says, or do not follow the one before them."""
    found, before = [], ""
    for each in statements:
        if each.before != before or each.digest != digest_of(each.tenant, each.period, each.lines, each.before):
            found.append(each.key)
        before = each.digest
    return tuple(found)
