"""Which replica is chosen: least load, memory of prompts, weights, zones; and which are left out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from services.router.core import affinity
from services.router.core.balancing import Rules, choose, drawn
from services.router.core.ejection import FAILURES_MAX, OUT_MAX_S, OUT_S, Health, usable
from tests.sim import balancing as simulated


@dataclass
class Replica:
    name: str = ""
    load: int = 0
    weight: int = 100
    zone: str = ""
    health: Health = field(default_factory=Health)


def names(replicas: list[Replica], count: int, **more: object) -> Counter[str]:
    return Counter(choose(replicas, draw=drawn(1, turn), **more).name for turn in range(count))  # type: ignore[arg-type]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=9), st.integers(0, 2**64 - 1))
def test_no_replica_has_less_to_do_than_the_chosen_one(loads: list[int], draw: int) -> None:
    replicas = [Replica(load=each) for each in loads]

    assert choose(replicas, draw=draw).load == min(loads)


def test_equals_are_chosen_alike_often_and_two_routers_do_not_agree() -> None:
    replicas = [Replica("a"), Replica("b"), Replica("c", load=5), Replica("d")]

    found = names(replicas, 3000)
    mine = [choose(replicas, draw=drawn(1, turn)).name for turn in range(300)]
    theirs = [choose(replicas, draw=drawn(2, turn)).name for turn in range(300)]

    assert set(found) == {"a", "b", "d"}
    assert min(found.values()) > 900
    assert sum(a == b for a, b in zip(mine, theirs, strict=True)) < 150


@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 2**64 - 1))
def test_a_preference_is_followed_within_its_slack_and_not_beyond(preferred: int, other: int, draw: int) -> None:
    knows, free = Replica("knows", preferred), Replica("free", other)

    chosen = choose([knows, free], draw=draw, preferred=knows, rules=Rules(affinity_slack=8))

    assert (chosen is knows) == (preferred <= min(preferred, other) + 8)


def test_a_canary_gets_its_share_however_idle_it_is() -> None:
    replicas = [Replica("old-1", 50, 95), Replica("old-2", 50, 95), Replica("canary", 0, 10), Replica("none", 0, 0)]

    found = names(replicas, 10_000)

    assert found["none"] == 0
    assert 0.03 < found["canary"] / 10_000 < 0.07
    assert abs(found["old-1"] - found["old-2"]) < 500


def test_replicas_of_no_weight_serve_when_there_are_no_others() -> None:
    assert names([Replica("a", weight=0), Replica("b", weight=0)], 100).keys() == {"a", "b"}


def test_a_zone_is_preferred_until_it_is_busier() -> None:
    here, there = Replica("here", 3, zone="z1"), Replica("there", 0, zone="z2")
    rules = Rules(zone="z1", zone_slack=4)

    assert names([here, there], 50, rules=rules) == {"here": 50}
    here.load = 5
    assert names([here, there], 50, rules=rules) == {"there": 50}


def test_prompts_share_the_marks_of_their_common_beginning() -> None:
    system, block = b"s" * affinity.BLOCK_BYTES * 2, affinity.BLOCK_BYTES

    one, two = affinity.marks(system + b"1" * block), affinity.marks(system + b"2" * block)

    assert len(one) == len(two) == 3
    assert one[1:] == two[1:]
    assert one[0] != two[0]
    assert affinity.marks(b"x" * (block - 1)) == ()
    assert len(affinity.marks(b"x" * 100 * block)) == affinity.BLOCKS_MAX
    assert not set(affinity.marks(system, adapter="a")) & set(affinity.marks(system, adapter="b"))


def test_the_longest_known_beginning_names_the_replica_and_a_session_goes_before_it() -> None:
    memory, text = affinity.Memory(), b"s" * affinity.BLOCK_BYTES
    memory.learn(affinity.marks(text), "first")
    memory.learn(affinity.marks(text + b"q" * affinity.BLOCK_BYTES), "second")

    assert memory.recall(affinity.marks(text + b"q" * affinity.BLOCK_BYTES * 2)) == "second"
    memory.learn(affinity.marks(b"hi", session="s1"), "third")
    assert memory.recall(affinity.marks(text, session="s1")) == "third"
    assert memory.recall(affinity.marks(b"other " * 500)) == ""


@given(st.lists(st.integers(0, 30), max_size=80))
def test_memory_is_bounded_and_forgets_what_was_not_seen_for_the_longest_time(seen: list[int]) -> None:
    memory = affinity.Memory(known_max=5)
    for each in seen:
        memory.learn((each,), str(each))

    newest = list(dict.fromkeys(reversed(seen)))[:5]
    assert len(memory) == len(newest)
    assert all(memory.recall((each,)) == str(each) for each in newest)


def test_a_replica_that_fails_is_out_and_comes_back_by_one_request_that_succeeds() -> None:
    health = Health()

    put_out = [health.failed(now_s=100.0) for _ in range(FAILURES_MAX)]

    assert put_out == [False] * (FAILURES_MAX - 1) + [True]
    assert not health.may_take(100.0 + OUT_S - 0.1)
    assert health.may_take(100.0 + OUT_S)
    health.dispatched(100.0 + OUT_S)
    assert not health.may_take(100.0 + OUT_S), "one tries it, others wait for what it finds"
    health.answered()
    assert health.is_well


def test_a_replica_that_fails_its_trial_is_out_for_twice_as_long_up_to_a_minute() -> None:
    health, now_s, outs = Health(), 0.0, list[float]()
    for _ in range(FAILURES_MAX):
        health.failed(now_s)
    for _ in range(8):
        outs.append(health.out_until_s - now_s)
        now_s = health.out_until_s
        health.dispatched(now_s)
        assert health.failed(now_s)

    assert outs[:3] == [OUT_S, 2 * OUT_S, 4 * OUT_S]
    assert max(outs) == OUT_MAX_S


def test_a_trial_whose_client_leaves_lets_another_try() -> None:
    health = Health()
    for _ in range(FAILURES_MAX):
        health.failed(0.0)
    health.dispatched(OUT_S)

    health.left()

    assert health.may_take(OUT_S)


@given(st.integers(1, 12), st.integers(0, 12))
def test_when_fewer_than_half_are_well_all_are_asked(count: int, failing: int) -> None:
    replicas = [Replica(str(index)) for index in range(count)]
    for each in replicas[:failing]:
        for _ in range(FAILURES_MAX):
            each.health.failed(0.0)

    found = usable(replicas, 1.0)

    assert len(found) == (count if 2 * min(failing, count) > count else count - min(failing, count))


def test_ours_reads_less_than_least_load_and_has_no_hot_spot_as_always_following_has() -> None:
    """The table of docs/balancing.md in small, with its two planted faults."""
    talks, hot = simulated.chats(count=2000), simulated.one_hot(count=1500)
    ours = simulated.Tried(lambda: simulated.prefix(simulated.OURS))
    late = simulated.Tried(lambda: simulated.prefix(simulated.OURS), late_ms=simulated.ANSWERED_MS)

    plain = simulated.run(talks, simulated.POLICIES["least load"])
    followed = simulated.run(talks, ours)
    always = simulated.run(talks, simulated.POLICIES["prefix, always"])
    first = simulated.run(hot, simulated.POLICIES["ours, but a miss goes to the first"])

    assert followed.hit_percent > plain.hit_percent + 10
    assert followed.busiest < 1.3 < always.busiest
    assert simulated.run(hot, ours).busiest < 1.3 < first.busiest
    assert simulated.run(hot, late).p99_ms > 2 * simulated.run(hot, ours).p99_ms
    assert simulated.run(talks, ours) == followed, "the same numbers come out every time"
