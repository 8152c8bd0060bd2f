"""Who waits, whose turn it is, and who is turned away."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from services.router.core.queueing import FairQueue, ServiceTime, Turned, Waiter, waiting_max

FAR_S = 1_000.0


def a_waiter(name: str, *, lane: str = "", deadline_s: float = FAR_S, is_batch: bool = False) -> Waiter[str]:
    return Waiter(name, lane or name[0], deadline_s, is_batch)


def filled(*names: str, size: int = 100) -> FairQueue[str]:
    queue: FairQueue[str] = FairQueue()
    for name in names:
        assert queue.add(a_waiter(name), waiting_max=size, wait_s=0, now_s=0) is None
    return queue


def served(queue: FairQueue[str], now_s: float = 0) -> list[str]:
    found = []
    while (waiter := queue.take(now_s)) is not None:
        found.append(waiter.request)
    return found


def add(queue: FairQueue[str], waiter: Waiter[str], size: int) -> tuple[Turned, str] | None:
    turned = queue.add(waiter, waiting_max=size, wait_s=0, now_s=0)
    return turned and (turned[0], turned[1].request)


def test_lanes_take_turns_and_a_lane_is_served_in_order() -> None:
    assert served(filled("a1", "a2", "a3", "a4", "b1", "c1", "b2")) == ["a1", "b1", "c1", "a2", "b2", "a3", "a4"]


def test_interactive_goes_before_batch() -> None:
    queue = filled("a1")
    queue.add(a_waiter("x1", is_batch=True), waiting_max=9, wait_s=0, now_s=0)
    queue.add(a_waiter("b1"), waiting_max=9, wait_s=0, now_s=0)

    assert served(queue) == ["a1", "b1", "x1"]


def test_a_full_queue_makes_room_at_the_cost_of_batch_then_of_the_longest_lane() -> None:
    queue = filled("a1", "a2", "a3")
    queue.add(a_waiter("x1", is_batch=True), waiting_max=4, wait_s=0, now_s=0)

    assert add(queue, a_waiter("b1"), 4) == (Turned.FULL, "x1")
    assert add(queue, a_waiter("c1"), 4) == (Turned.SHARE, "a3")
    assert add(queue, a_waiter("a4"), 4) == (Turned.SHARE, "a4"), "who has most waiting is refused first"
    assert add(queue, a_waiter("x2", is_batch=True), 4) == (Turned.FULL, "x2")
    assert served(queue) == ["a1", "b1", "c1", "a2"]


def test_a_single_client_that_fills_the_queue_is_told_that_the_endpoint_is_full() -> None:
    queue = filled("a1", "a2")

    assert add(queue, a_waiter("a3"), 2) == (Turned.FULL, "a3")


def test_what_can_not_be_served_before_its_deadline_is_refused_at_once() -> None:
    queue, service = filled("a1", "a2", "a3"), ServiceTime()
    service.note(2.0)
    late = a_waiter("b1", deadline_s=3.9)

    turned = queue.add(late, waiting_max=9, wait_s=service.wait_s(ahead=3, places=2), now_s=0)

    assert turned == (Turned.LATE, late)
    assert len(queue) == 3


def test_those_whose_deadline_passed_are_not_served_and_are_told() -> None:
    queue = filled("a1")
    queue.add(a_waiter("b1", deadline_s=5), waiting_max=9, wait_s=0, now_s=0)

    assert [each.request for each in queue.expired(5)] == ["b1"]
    assert served(queue, 5) == ["a1"]


def test_one_that_is_put_back_is_next() -> None:
    queue = filled("a1", "b1", "a2")
    first = queue.take(0)
    assert first is not None

    queue.put_back(first)

    assert served(queue) == ["a1", "b1", "a2"]


def test_a_queue_is_no_longer_than_twice_what_is_served() -> None:
    assert [waiting_max(places) for places in (1, 8, 256)] == [16, 16, 512]


STEPS = st.lists(st.tuples(st.sampled_from("abcd"), st.booleans(), st.integers(0, 2)), max_size=80)


@given(STEPS, st.integers(1, 8))
def test_nobody_is_lost_or_served_twice_and_the_queue_is_never_longer_than_it_may_be(
    steps: list[tuple[str, bool, int]], size: int
) -> None:
    queue: FairQueue[str] = FairQueue()
    ended: list[str] = []
    for count, (lane, is_batch, takes) in enumerate(steps):
        turned = add(queue, a_waiter(f"{lane}{count}", is_batch=is_batch), size)
        ended += [turned[1]] if turned else []
        assert len(queue) == sum(1 for _ in queue) <= size
        for _ in range(takes):
            waiter = queue.take(0)
            ended += [waiter.request] if waiter else []
    ended += [each.request for each in queue.clear()]

    assert sorted(ended) == sorted(f"{lane}{count}" for count, (lane, _, _) in enumerate(steps))
    assert len(queue) == 0


@given(st.integers(2, 30), st.integers(1, 5))
def test_a_client_with_one_request_waits_for_one_of_each_other_client_and_no_more(burst: int, others: int) -> None:
    queue = filled(*(f"a{index}" for index in range(burst)))
    for other in range(others):
        queue.add(a_waiter(f"o{other}", lane=str(other)), waiting_max=1000, wait_s=0, now_s=0)

    order = served(queue)

    assert all(order.index(f"o{other}") <= others for other in range(others))
