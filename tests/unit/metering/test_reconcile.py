"""Provider, ledger, what was told, what was accepted: a difference of each kind is planted, found and explained."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import pytest

from libs.common.errors import Invalid
from libs.common.units import HOUR_MS, MINUTE_MS
from services.metering.core.exports.state import Export, Reason, Sold
from services.metering.core.reconcile import APART_MS, Claim, Finding, Side, accepted
from services.metering.core.state import Window
from services.metering.shell.closing import Closing
from services.metering.shell.ports import Ports
from services.metering.shell.reconciling import claims_in, findings
from tests.unit.metering.exports.books import SERVERS, Books, receiver_of, sender_to
from tests.unit.metering.world import ENDPOINT, T0, WINDOWS, World, batch, joined, released, requested, usage

LENT = (Claim("n1", T0 + 500),)


def a_world() -> World:
    """A node that is held, one that was given back, and two requests; all told."""
    world = World()
    world.hear(requested(), joined("n1", at_ms=T0 + 500, sequence=1), joined("n2", at_ms=T0 + 500, sequence=2))
    world.hear(batch([usage("r1"), usage("r2")]), released("n2", at_ms=T0 + 9_000, sequence=3))
    world.pass_time(90)
    return world


def found(world: World, claims: Sequence[Claim] | None = LENT) -> tuple[Finding, ...]:
    ports = Ports(world.store, world.clock, world.windows)
    return tuple(
        each
        for each in findings(ports, Closing(world.store, world.clock, late_ms=0), (), claims)
        if not each.is_passing
    )


def test_where_all_agree_nothing_is_found() -> None:
    assert found(a_world()) == ()
    assert found(a_world(), None) == ()


def test_a_claim_that_nobody_told_us_of_is_found() -> None:
    world = a_world()

    (finding,) = found(world, (*LENT, Claim("n9", T0)))

    assert (finding.side, finding.ours, finding.theirs) == (Side.CAPACITY, 0, world.clock.now_ms() - T0)
    assert "no node.joined" in finding.cause
    assert found(world, (*LENT, Claim("n9", world.clock.now_ms() - MINUTE_MS))) == ()  # It just came.


def test_a_node_that_vanished_behind_our_back_is_found() -> None:
    (finding,) = found(a_world(), ())

    assert (finding.side, finding.theirs) == (Side.CAPACITY, 0)
    assert finding.what.startswith(f"claim n1 of {ENDPOINT}")
    assert "vanished" in finding.cause


def test_a_node_that_was_away_in_between_is_found() -> None:
    assert found(a_world(), (Claim("n1", T0 + 500 + APART_MS),)) == ()
    (finding,) = found(a_world(), (Claim("n1", T0 + 20_000),))

    assert (finding.side, finding.ours, finding.theirs) == (Side.CAPACITY, T0 + 500, T0 + 20_000)


def test_a_changed_entry_is_found_against_sums_telling_and_held_time() -> None:
    world = a_world()
    held = next(each for each in world.store.ledger.values() if each.meter == "gpu_ms")
    world.store.ledger[held.id] = replace(held, quantity=held.quantity + 1)

    sides = {each.side for each in found(world)}

    assert {Side.LEDGER, Side.TOLD} <= sides
    assert all(each.repair for each in found(world))


def test_a_window_that_waits_to_be_told_is_passing_and_one_that_nobody_marked_is_not() -> None:
    world = a_world()
    world.hear(batch([usage("late")], boot_seq=2))
    ports = Ports(world.store, world.clock, world.windows)
    seen = findings(ports, Closing(world.store, world.clock, late_ms=0), (), LENT)

    assert {(each.side, each.is_passing) for each in seen if each.side is Side.TOLD} == {(Side.TOLD, True)}


def test_a_batch_that_never_came_is_found() -> None:
    world = a_world()
    world.hear(batch([usage("r9")], boot_seq=4))
    world.pass_time(20)

    (finding,) = found(world)

    assert (finding.side, finding.theirs) == (Side.ROUTERS, 2)


def ended_boots(world: World) -> list[Finding]:
    ports = Ports(world.store, world.clock, world.windows)
    seen = findings(ports, Closing(world.store, world.clock, late_ms=0), (), LENT)
    return [each for each in seen if "ended boot" in each.what]


def test_what_a_boot_that_ended_did_not_bring_is_found_until_a_later_one_brings_it() -> None:
    world = a_world()
    world.hear(batch([usage("r9")], boot_id="killed", boot_seq=3, at_ms=T0 + 30_000))
    world.hear(batch([usage("r10")], boot_id="half", boot_seq=2, at_ms=T0 + 40_000))
    world.pass_time(20)

    before = ended_boots(world)
    world.hear(batch([usage("r8"), usage("r7")], boot_id="whole", boot_seq=1, at_ms=T0 + 50_000))
    world.pass_time(20)
    after = ended_boots(world)

    (killed,) = before
    assert (killed.ours, killed.theirs, killed.is_passing) == (1, 3, False)
    assert "journal" in killed.repair
    assert [(each.ours, each.theirs, each.is_passing) for each in after] == [(1, 3, True), (1, 2, True)]
    assert all(each.cause and each.repair for each in after)


def test_a_changed_statement_is_found() -> None:
    world = World()
    world.hear(batch([usage("r1")]))
    closing = Closing(world.store, world.clock, late_ms=0)
    world.clock.advance(24 * HOUR_MS)
    world.rest()
    (statement,) = closing.close("2027-01-15")
    key = ("statement", statement.key)
    record = world.store.records[key]
    world.store.records[key] = replace(record, state=record.state.replace(b'"quantity":1', b'"quantity":2'))

    (finding,) = (each for each in found(world, None) if each.side is Side.STATED)

    assert finding.what == statement.key


def told(quantity: int = 5, revision: int = 1) -> Window:
    return Window("w", quantity=quantity, revision=revision)


@pytest.mark.parametrize(
    ("export", "cause", "is_passing"),
    [
        (None, "not read that far", True),
        (Export("w", revision=1, quantity=5), "waits to be sent", True),
        (Export("w", revision=1, quantity=5, parked=Reason.NO_CUSTOMER), "parked: no_customer", False),
        (Export("w", revision=1, quantity=4, held=4), "was changed", False),
        (Export("w", revision=0, quantity=4, held=4), "not read that far", True),
    ],
    ids=str,
)
def test_what_a_billing_system_did_not_accept_is_found_with_its_cause(
    export: Export | None, cause: str, is_passing: bool
) -> None:
    (finding,) = accepted("stripe", [told()], [] if export is None else [export])

    assert cause in finding.cause
    assert (finding.ours, finding.theirs, finding.is_passing) == (5, export.held if export else 0, is_passing)
    assert finding.repair
    assert accepted("stripe", [told()], [Export("w", revision=1, quantity=5, held=5)]) == ()


def test_the_parts_of_a_window_that_a_billing_system_accepted_are_counted_together() -> None:
    base = Export("w", revision=1, quantity=2, held=2)
    part = Export("w;fin;", sold=Sold(adapter="fin"), revision=1, quantity=3, held=3)
    parked = replace(part, held=0, parked=Reason.NO_CUSTOMER)

    assert accepted("openmeter", [told()], [base, part]) == ()
    (finding,) = accepted("openmeter", [told()], [base, parked])
    assert (finding.what, finding.ours, finding.theirs) == ("w at openmeter", 5, 2)
    assert "parked: no_customer" in finding.cause


def test_an_export_is_reconciled_from_its_own_records() -> None:
    books = Books()
    with SERVERS["openmeter"]() as billing:
        billing.now_ms = books.clock.now_ms
        export = books.export(receiver_of("openmeter"), sender_to("openmeter", billing.url))
        books.tell(5)
        ports = Ports(books.store, books.clock, WINDOWS)
        closing = Closing(books.store, books.clock, late_ms=0)

        before = [each for each in findings(ports, closing, [export], None) if each.side is Side.ACCEPTED]
        books.settle(export)
        after = [each for each in findings(ports, closing, [export], None) if each.side is Side.ACCEPTED]

    assert [(each.ours, each.theirs, each.is_passing) for each in before] == [(5, 0, True)]
    assert after == []


def test_claims_are_read_as_kubectl_writes_them() -> None:
    document = {
        "kind": "NodeClaimList",
        "items": [
            {
                "metadata": {"name": "n1"},
                "status": {
                    "conditions": [{"type": "Joined", "status": "True", "lastTransitionTime": "2027-01-15T08:00:00Z"}]
                },
            },
            {"metadata": {"name": "n2"}, "status": {"conditions": [{"type": "Joined", "status": "False"}]}},
            {"metadata": {"name": "n3"}},
        ],
    }

    assert claims_in(json.dumps(document)) == [Claim("n1", T0)]
    for wrong in ("", "[]", "{}", '{"kind":"Pod"}', '{"kind":"List","items":[{}, {"status":{"conditions":[7]}}]}'):
        with pytest.raises(Invalid, match="kubectl get nodeclaims"):
            claims_in(wrong)
