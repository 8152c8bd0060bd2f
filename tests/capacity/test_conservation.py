"""Capacity is conserved: created, scaled and deleted under every fault, nothing is leaked, doubled or unaccounted."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from libs.common.clock import ManualClock
from libs.common.units import SECOND_MS
from tests.capacity import accounts
from tests.capacity.bugs import AT_PEACE, BUGS, once_gone_is_gone, sees_all_nodes
from tests.capacity.checkers import Broken, Checker, at_rest, heard
from tests.capacity.lives import one_life
from tests.capacity.run import SHARE, Run, Spoil
from tests.capacity.trouble import CALLS, ONCE, SPANS

PEACEFUL = 14
FEW = 12
MANY = 200  # `python -m tests.capacity` plays the thousand.
AGED = {"silent_nodes", "replaced", "replaced in a pool", "replacement refused", "cluster taken"}
EVERY_FAULT = {*CALLS, *ONCE, *SPANS, *AGED, "SIGKILL", "answer lost", SHARE}


def conserved(run: Run) -> Run:
    run.play(Checker())
    at_rest(run)
    return run


def one(die_at: int = 0) -> Run:
    """One endpoint's whole life without other trouble, and perhaps one death in it."""
    life = one_life(from_ms=ManualClock().now_ms())
    return Run(seed=5, endpoints=1, strangers=0, is_troubled=False, die_at=die_at, scripted=[life])


def conserved_over(seeds: int, spoil: Spoil) -> None:
    for seed in range(1, seeds + 1):
        conserved(Run(seed=seed, endpoints=FEW, spoil=spoil))


def test_some_endpoints_under_every_fault_leave_nothing_and_account_for_every_second() -> None:
    run = conserved(Run(seed=3, endpoints=FEW))

    assert any(node.endpoint in run.lives for node in run.truth.machines.values())
    assert set(run.trouble.tally) & EVERY_FAULT


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_many_endpoints_under_every_fault_leave_nothing_and_account_for_every_second() -> None:
    run = conserved(Run(seed=1, endpoints=MANY, strangers=5))

    assert set(run.trouble.tally) == EVERY_FAULT


@pytest.mark.chaos
@pytest.mark.timeout(600)
def test_a_death_at_any_step_of_a_create_and_a_delete_changes_nothing_of_the_outcome() -> None:
    whole = conserved(one())
    assert whole.trouble.moments > 80, "a life without moments would prove nothing"

    for place in range(1, whole.trouble.moments + 1):
        run = conserved(one(die_at=place))
        assert run.trouble.tally["SIGKILL"] == 1, place
        machines = [each for each in run.truth.machines.values() if each.endpoint in run.lives]
        joined = {each.name for each in machines if each.joined_ms is not None}
        assert accounts.told_ms(run.told).keys() == joined, place


@pytest.mark.chaos
@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_seen(name: str) -> None:
    spoil, broken = BUGS[name]

    with pytest.raises(AssertionError, match=broken):
        conserved_over(5, spoil)


@pytest.mark.parametrize("name", [None, *AT_PEACE])
def test_in_a_run_without_trouble_all_that_stands_warm_is_told_and_a_planted_bug_is_seen(name: str | None) -> None:
    spoil, broken = AT_PEACE[name] if name else (lambda service: service, "")
    run = Run(seed=2, endpoints=PEACEFUL, spoil=spoil, strangers=0, is_troubled=False)
    if not broken:
        conserved(run)
        assert any(each.drawn_warm for each in run.claims()), "nobody ever drew on a warm node"
        return

    with pytest.raises(Broken, match=broken):
        conserved(run)


def test_a_machine_that_is_shown_again_and_counts_as_gone_all_the_same_is_seen() -> None:
    slow = {"early_404_ms": 3 * SECOND_MS, "delete_factor": 30.0}
    run = one()
    run.world.set_faults(slow)
    conserved(run)

    spoilt = replace(run, spoil=once_gone_is_gone, scripted=[one_life(from_ms=run.began_ms)], told=[])
    spoilt.world.set_faults(slow)

    with pytest.raises(Broken, match="held time ends with the machine"):
        conserved(spoilt)


@pytest.mark.chaos
def test_an_adapter_that_mixes_up_clusters_is_seen() -> None:
    run = Run(seed=1, endpoints=FEW)
    run.spoil = sees_all_nodes(run)
    run.start()

    with pytest.raises(Broken, match="no GPU is held twice"):
        conserved(run)


def test_a_second_that_is_missing_doubled_or_nobodys_is_seen() -> None:
    run = conserved(one())
    entries = accounts.booked(heard(run), rng=Random(1), end_ms=run.clock.now_ms())
    held = accounts.told_ms(run.told)
    assert list(accounts.wrong(entries, held)) == []
    assert sum(accounts.gpu_ms(entries).values()) == sum(
        gpus * (to_ms - from_ms) for _, gpus, from_ms, to_ms in held.values()
    )

    assert list(accounts.wrong(entries[1:], held))
    assert list(accounts.wrong([*entries, entries[0]], held))
    assert list(accounts.wrong(entries, {}))
