"""The audit: each change that somebody asked for is one row, in the commit of the change, chained to the row before.

Each tenant's rows are a chain of their own, which says nothing of anybody else: `tenant_hash` covers a row's content
and the `tenant_hash` of the tenant's row before it. `hash` covers that and the `hash` of the row before it, whoever's
that is. So an edit, a deletion or a swap breaks a chain. Cutting off the end, or writing the whole chain anew, breaks
none: that is seen because each `hash` is also told to the bus (`audit.recorded`), which whoever holds the database
does not hold.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, replace
from typing import Final

NOTHING_BEFORE: Final = ""  # What the first row of a chain is chained to.


@dataclass(frozen=True, slots=True)
class Deed:
    """Who changed what: `action` on `target`, and the SHA-256 of the record before and after (empty: there was none).

    `actor` is ``key:<id>``, ``user:<subject>`` or ``operator:<id>``; times are epoch milliseconds. `project_id` is
    empty for what concerns the tenant as a whole.
    """

    at_ms: int
    tenant_id: str
    actor: str
    action: str
    target: str
    request_id: str
    before_sha256: str
    after_sha256: str
    project_id: str = ""


@dataclass(frozen=True, slots=True)
class Sealed:
    """A deed in its place in the chain, `seq` from 1 without a gap; `tenant_seq` likewise in the tenant's own chain.

    A tenant is shown `tenant_seq`, `tenant_previous` and `tenant_hash` only: `seq`, and whatever a guess of it can be
    tried on, would tell it how much others do.
    """

    seq: int
    tenant_seq: int
    deed: Deed
    previous: str
    tenant_previous: str
    tenant_hash: str
    hash: str


@dataclass(frozen=True, slots=True)
class Flaw:
    """What is wrong with the audit at a row."""

    seq: int
    message: str


def sealed(deed: Deed, *, seq: int, tenant_seq: int, previous: str, tenant_previous: str) -> Sealed:
    """The deed as row ``seq``, the tenant's ``tenant_seq``."""
    row = Sealed(seq, tenant_seq, deed, previous, tenant_previous, tenant_hash="", hash="")
    row = replace(row, tenant_hash=_tenant_hash(row))
    return replace(row, hash=_hash(row))


def flaws(rows: Iterable[Sealed], told: Mapping[int, str]) -> Iterator[Flaw]:
    """What is wrong with ``rows``, which should be the whole audit, given the hashes that the bus was ``told``."""
    previous = nothing = Sealed(0, 0, Deed(0, "", "", "", "", "", "", ""), "", "", NOTHING_BEFORE, NOTHING_BEFORE)
    of_tenant: dict[str, Sealed] = {}
    for row in rows:
        message = _flaw(row, previous, of_tenant.get(row.deed.tenant_id, nothing), told.get(row.seq))
        if message:
            yield Flaw(row.seq, message)
        previous = row
        of_tenant[row.deed.tenant_id] = row
    missing = [seq for seq in told if seq > previous.seq]
    if missing:
        yield Flaw(min(missing), f"the audit ends at row {previous.seq}, but the bus was told of row {max(missing)}")


def _flaw(row: Sealed, previous: Sealed, of_tenant: Sealed, told: str | None) -> str:
    if row.seq != previous.seq + 1:
        return f"row {row.seq} follows row {previous.seq}: what was between them is gone"
    if (row.tenant_hash, row.hash) != (_tenant_hash(row), _hash(row)):
        return "its content is not what was sealed: it was edited"
    if row.previous != previous.hash:
        return f"it is not chained to row {previous.seq}: one of the two was replaced"
    if (row.tenant_previous, row.tenant_seq) != (of_tenant.tenant_hash, of_tenant.tenant_seq + 1):
        return "it is not chained to the tenant's row before it: one of the two was replaced"
    if told is not None and told != row.hash:
        return "the bus was told of another row in this place: the chain was written anew"
    return ""


def _tenant_hash(row: Sealed) -> str:
    return _sha256([row.tenant_seq, row.tenant_previous, *astuple(row.deed)])


def _hash(row: Sealed) -> str:
    return _sha256([row.seq, row.previous, row.tenant_hash])


def _sha256(content: list[object]) -> str:
    return hashlib.sha256(json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode()).hexdigest()
