"""The audit: each change that somebody asked for is one row, in the commit of the change, chained to the row before.

A row's hash covers its content, the hash of the row before it and of the tenant's row before it, so an edit, a
deletion or a swap breaks the chain. Cutting off the end, or writing the whole chain anew, breaks none: that is seen
because each hash is also told to the bus (`audit.recorded`), which whoever holds the database does not hold.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass
from typing import Final

NOTHING_BEFORE: Final = ""  # What the first row of a chain is chained to.


@dataclass(frozen=True, slots=True)
class Deed:
    """Who changed what: `action` on `target`, and the SHA-256 of the record before and after (empty: there was none).

    `actor` is ``key:<id>``, ``user:<subject>`` or ``operator:<id>``; times are epoch milliseconds.
    """

    at_ms: int
    tenant_id: str
    actor: str
    action: str
    target: str
    request_id: str
    before_sha256: str
    after_sha256: str


@dataclass(frozen=True, slots=True)
class Sealed:
    """A deed in its place in the chain, `seq` from 1 without a gap."""

    seq: int
    deed: Deed
    previous: str
    tenant_previous: str
    hash: str


@dataclass(frozen=True, slots=True)
class Flaw:
    """What is wrong with the audit at a row."""

    seq: int
    message: str


def sealed(deed: Deed, *, seq: int, previous: str, tenant_previous: str) -> Sealed:
    """The deed as row ``seq``."""
    return Sealed(seq, deed, previous, tenant_previous, _hash(deed, seq, previous, tenant_previous))


def flaws(rows: Iterable[Sealed], told: Mapping[int, str]) -> Iterator[Flaw]:
    """What is wrong with ``rows``, which should be the whole audit, given the hashes that the bus was ``told``."""
    previous = Sealed(0, Deed(0, "", "", "", "", "", "", ""), "", "", NOTHING_BEFORE)
    of_tenant: dict[str, str] = {}
    for row in rows:
        message = _flaw(row, previous, of_tenant.get(row.deed.tenant_id, NOTHING_BEFORE), told.get(row.seq))
        if message:
            yield Flaw(row.seq, message)
        previous = row
        of_tenant[row.deed.tenant_id] = row.hash
    missing = [seq for seq in told if seq > previous.seq]
    if missing:
        yield Flaw(min(missing), f"the audit ends at row {previous.seq}, but the bus was told of row {max(missing)}")


def _flaw(row: Sealed, previous: Sealed, tenant_previous: str, told: str | None) -> str:
    if row.seq != previous.seq + 1:
        return f"row {row.seq} follows row {previous.seq}: what was between them is gone"
    if row.hash != _hash(row.deed, row.seq, row.previous, row.tenant_previous):
        return "its content is not what was sealed: it was edited"
    if row.previous != previous.hash:
        return f"it is not chained to row {previous.seq}: one of the two was replaced"
    if row.tenant_previous != tenant_previous:
        return "it is not chained to the tenant's row before it: one of the two was replaced"
    if told is not None and told != row.hash:
        return "the bus was told of another row in this place: the chain was written anew"
    return ""


def _hash(deed: Deed, seq: int, previous: str, tenant_previous: str) -> str:
    content = json.dumps([seq, previous, tenant_previous, *astuple(deed)], separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()
