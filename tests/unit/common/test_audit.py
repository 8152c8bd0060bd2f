"""The audit finds every way of changing what was recorded, wherever in it the change is."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from libs.common.audit import Deed, Sealed, flaws, sealed

Rows = Sequence[Sealed]
TENANTS = ("", "acme", "globex")


def a_chain(count: int, *, request: str = "req") -> list[Sealed]:
    """Rows of three tenants in turn."""
    rows: list[Sealed] = []
    for seq in range(1, count + 1):
        tenant = TENANTS[seq % 3]
        of_tenant = ["", *(each.tenant_hash for each in rows if each.deed.tenant_id == tenant)]
        deed = Deed(
            seq, tenant, "key:abcdefghij", "create_endpoint", f"ep-{seq}", f"{request}-{seq}", "", "f00d", "main"
        )
        previous = rows[-1].hash if rows else ""
        place = {"seq": seq, "tenant_seq": len(of_tenant)}
        rows.append(sealed(deed, **place, previous=previous, tenant_previous=of_tenant[-1]))
    return rows


def told_of(rows: Rows) -> Mapping[int, str]:
    """What the bus was told of them."""
    return {each.seq: each.hash for each in rows}


def edit(rows: Rows, place: int) -> Rows:
    deed = replace(rows[place].deed, actor="key:zzzzzzzzzz")
    return [*rows[:place], replace(rows[place], deed=deed), *rows[place + 1 :]]


def edit_and_seal_anew(rows: Rows, place: int) -> Rows:
    row = rows[place]
    return [*rows[:place], sealed_again(row, replace(row.deed, actor="key:zzzzzzzzzz")), *rows[place + 1 :]]


def move_to_another_project(rows: Rows, place: int) -> Rows:
    deed = replace(rows[place].deed, project_id="")
    return [*rows[:place], replace(rows[place], deed=deed), *rows[place + 1 :]]


def sealed_again(row: Sealed, deed: Deed) -> Sealed:
    place = {"seq": row.seq, "tenant_seq": row.tenant_seq}
    return sealed(deed, **place, previous=row.previous, tenant_previous=row.tenant_previous)


def delete(rows: Rows, place: int) -> Rows:
    return [*rows[:place], *rows[place + 1 :]]


def swap(rows: Rows, place: int) -> Rows:
    other = (place + 1) % len(rows)
    changed = list(rows)
    changed[place], changed[other] = changed[other], changed[place]
    return changed


def truncate(rows: Rows, place: int) -> Rows:
    return rows[:place]


def truncate_and_append(rows: Rows, place: int) -> Rows:
    return [*rows[:place], *a_chain(len(rows), request="forged")[place:]]


def write_anew(rows: Rows, place: int) -> Rows:
    return a_chain(len(rows), request=f"forged{place}")


TAMPERINGS: Sequence[Callable[[Rows, int], Rows]] = (
    edit, edit_and_seal_anew, move_to_another_project, delete, swap, truncate, truncate_and_append, write_anew,
)  # fmt: skip


@given(count=st.integers(0, 30))
def test_what_was_recorded_has_no_flaw(count: int) -> None:
    rows = a_chain(count)

    assert list(flaws(rows, told_of(rows))) == []
    assert list(flaws(rows, {})) == []


@pytest.mark.parametrize("tamper", TAMPERINGS, ids=lambda each: each.__name__)
@given(count=st.integers(2, 20), data=st.data())
def test_every_tampering_is_found(tamper: Callable[[Rows, int], Rows], count: int, data: st.DataObject) -> None:
    rows = a_chain(count)
    place = data.draw(st.integers(0, count - 1))

    assert list(flaws(tamper(rows, place), told_of(rows)))


@pytest.mark.parametrize("unseen", [truncate, write_anew], ids=lambda each: each.__name__)
def test_without_the_bus_a_cut_end_and_a_new_chain_are_not_seen(unseen: Callable[[Rows, int], Rows]) -> None:
    """Why each hash is told: a chain alone proves nothing about its end, nor about its beginning."""
    assert list(flaws(unseen(a_chain(9), 5), {})) == []


def test_a_tenants_row_given_to_another_is_found_though_its_hash_is_right() -> None:
    rows = a_chain(6)
    moved = replace(rows[4].deed, tenant_id=rows[3].deed.tenant_id)
    forged = sealed_again(replace(rows[4], previous=rows[3].hash), moved)

    [*_, flaw] = flaws([*rows[:4], forged], {})

    assert flaw.seq == 5


def test_what_a_tenant_sees_of_a_row_does_not_depend_on_what_others_did() -> None:
    """Neither number nor hash, also where the row before is the tenant's own and only the number could be guessed."""
    deed = a_chain(1)[0].deed
    first, second = (
        sealed(deed, seq=seq, tenant_seq=3, previous=previous, tenant_previous="d00d")
        for seq, previous in ((3, "d00d"), (1_003, "beef"))
    )

    assert first.tenant_hash == second.tenant_hash
    assert first.hash != second.hash


def test_a_tenants_rows_are_numbered_without_a_gap() -> None:
    rows = a_chain(6)
    last = rows[5]
    skipped = sealed_again(replace(last, tenant_seq=last.tenant_seq + 1), last.deed)

    [flaw] = flaws([*rows[:5], skipped], {})

    assert flaw.seq == 6
