"""Events come late, twice and out of order: the same set of them leads to the same claim and the same facts told."""

from __future__ import annotations

from collections import Counter
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from libs.common.events.envelope import Envelope
from services.capacity_manager.core.observed import GpuNode
from services.capacity_manager.core.placement import wanted_by
from services.capacity_manager.core.state import Claim
from tests.unit.capacity_manager.builders import (
    REMOVED,
    Bench,
    a_cluster,
    a_node,
    an_envelope,
    deletion,
    failure,
    requested,
    runs,
    scaled,
)

REQUEST: Final = an_envelope(requested())
GROWTH: Final = (
    an_envelope(scaled(3)),
    an_envelope(scaled(2), sequence=2),
    an_envelope(runs(1)),
    an_envelope(runs(2), sequence=2),
)
END: Final = (
    an_envelope(failure(), sequence=2),
    an_envelope(deletion(), generation=2, sequence=3),
    an_envelope(REMOVED, generation=2),
)
EVERYTHING: Final = (REQUEST, *GROWTH, *END)


def shuffled(events: tuple[Envelope, ...]) -> st.SearchStrategy[list[Envelope]]:
    """Every event at least once, some several times, in any order."""
    repeats = st.lists(st.sampled_from(events), max_size=6)
    return repeats.flatmap(lambda extra: st.permutations([*events, *extra]))


def after(events: list[Envelope]) -> Bench:
    bench = Bench()
    for each in events:
        bench.take(each)
    return bench


def to_the_end(bench: Bench) -> Bench:
    """Look and wake until nothing more is to happen, with the Platform doing at once what is wanted."""
    for _ in range(6):
        wanted = wanted_by(bench.claim)
        nodes = [a_node(f"n{each}") for each in range(wanted)]
        if wanted:
            gpus = tuple(GpuNode(name=node.name, gpus=8) for node in nodes)
            bench.see(cluster=a_cluster(wanted), nodes=nodes, gpu_nodes=gpus)
        else:
            bench.see()
        if bench.wake_at_ms is not None:
            bench.wake()
    return bench


@settings(max_examples=80, deadline=None)
@given(shuffled(EVERYTHING))
def test_any_order_and_repetition_of_a_whole_life_is_the_same_claim(events: list[Envelope]) -> None:
    bench, plain = after(events), after(list(EVERYTHING))

    assert bench.claim == plain.claim
    assert bench.kinds() == ["capacity.queued"]
    assert to_the_end(bench).claim == to_the_end(plain).claim
    assert bench.kinds() == ["capacity.queued", "capacity.released"]


@settings(max_examples=80, deadline=None)
@given(shuffled((REQUEST, *GROWTH)))
def test_any_order_and_repetition_of_growth_is_the_same_claim_and_each_fact_once(events: list[Envelope]) -> None:
    bench = to_the_end(after(events))

    assert bench.claim == to_the_end(after([REQUEST, *GROWTH])).claim
    assert bench.gpus == 16
    counts = Counter(bench.kinds())
    assert counts.pop("node.joined") == 2
    assert set(counts.values()) == {1}
    assert set(counts) == {
        "capacity.queued",
        "capacity.reserved",
        "capacity.cluster_ready",
        "capacity.nodes_joined",
        "capacity.gpu_ready",
    }


@settings(max_examples=100, deadline=None)
@given(shuffled(EVERYTHING), st.lists(st.sampled_from(["see", "gone", "wake", "trouble"]), max_size=30), st.randoms())
def test_whatever_is_mixed_in_facts_are_told_once_and_quota_equals_what_is_reserved(
    events: list[Envelope], looks: list[str], chance: object
) -> None:
    steps: list[Envelope | str] = [*events, *looks]
    chance.shuffle(steps)  # type: ignore[attr-defined]  # Hypothesis types its Random as object here.
    bench = Bench()

    for step in steps:
        take(bench, step)
        assert_sound(bench)
    to_the_end(bench)

    assert_sound(bench)
    assert bench.gpus == 0
    joined = Counter(each.claim for each in bench.told if each.kind == "node.joined")  # type: ignore[attr-defined]
    released = Counter(each.claim for each in bench.told if each.kind == "node.released")  # type: ignore[attr-defined]
    assert joined == released
    assert set(joined.values()) <= {1}


def take(bench: Bench, step: Envelope | str) -> None:
    wanted = max(wanted_by(bench.claim), len(bench.claim.nodes))
    nodes = [a_node(f"n{each}") for each in range(wanted)]
    bench.now_ms += 7_000
    match step:
        case Envelope():
            bench.take(step)
        case "see":
            bench.see(cluster=a_cluster(wanted) if wanted else None, nodes=nodes)
        case "gone":
            bench.see()
        case "trouble":
            bench.trouble("PlatformUnavailable")
        case _:
            if bench.wake_at_ms is not None:
                bench.wake()


def assert_sound(bench: Bench) -> None:
    claim: Claim = bench.claim
    assert bench.gpus == (claim.reservation.gpus if claim.reservation else 0)
    facts = Counter(kind for kind in bench.kinds() if kind.startswith("capacity.") and kind != "capacity.waiting")
    assert facts.pop("capacity.released", 0) <= 2, "once for the failure, once for the delete"
    assert set(facts.values()) <= {1}
