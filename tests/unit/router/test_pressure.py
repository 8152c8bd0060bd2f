"""A process with more to do than it can: simulated turns of an event loop, costs as they were measured."""

from __future__ import annotations

import random
import statistics
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from services.router.core import refusals
from services.router.core.pressure import SHORT_S, STANDING_S, TURN_LEAST, TURN_S, Pressure

SERVED_S = 0.0002  # What a request costs, half when it is read and half when its engine answers,
REFUSED_S = 0.00001  # and what it costs to send one away.
ENGINE_S = 0.02
IN_TIME_S = 0.5
LASTS_S = 2.0
PEAK = 1 / SERVED_S

Admits = Callable[[float, float], bool]  # Whether a request of the turn that began then is served that is read now.


@dataclass
class Seen:
    """What became of the requests of one run."""

    served_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)

    def goodput(self, lasted_s: float) -> float:
        return sum(each <= IN_TIME_S for each in self.served_s) / lasted_s


def run(arrivals: list[float], admits: Admits, ended: Callable[[float], None] = lambda _now_s: None) -> Seen:
    """Serve what comes: each turn handles what had come when it began, answers of engines first."""
    waiting, answers, seen, now_s = deque(sorted(arrivals)), deque[tuple[float, float]](), Seen(), 0.0
    while waiting or answers:
        now_s = max(now_s, min(each[0] for each in (waiting and (waiting[0],), answers and answers[0]) if each))
        turn_s = now_s
        while answers and answers[0][0] <= turn_s:
            now_s += SERVED_S / 2
            seen.served_s.append(now_s - answers.popleft()[1])
        while waiting and waiting[0] <= turn_s:
            came_s = waiting.popleft()
            if admits(turn_s, now_s):
                now_s += SERVED_S / 2
                answers.append((now_s + ENGINE_S, came_s))
            else:
                now_s += REFUSED_S
                seen.refused_s.append(now_s - came_s)
        ended(now_s)
    return seen


def arrivals(per_s: float, *, lasts_s: float, seed: int = 7) -> list[float]:
    chance, at_s, found = random.Random(seed), 0.0, []
    while at_s < lasts_s:
        at_s += chance.expovariate(per_s)
        found.append(at_s)
    return found


class ByPressure:
    """What the router's own shell does with it."""

    def __init__(self) -> None:
        self.pressure = Pressure()
        self._turn_s = -1.0
        self._surely = 0

    def admits(self, turn_s: float, now_s: float) -> bool:
        if turn_s != self._turn_s:
            self._turn_s, self._surely = turn_s, self.pressure.began(turn_s)
        self._surely -= 1
        return self._surely >= 0 or self.pressure.admits(now_s)


def by_pressure() -> tuple[Admits, Callable[[float], None]]:
    made = ByPressure()
    return made.admits, made.pressure.ended


@pytest.mark.parametrize("times", [1.5, 3.0, 5.0])
def test_goodput_under_overload_stays_near_the_peak_and_refusals_are_quick(times: float) -> None:
    seen = run(arrivals(times * PEAK, lasts_s=LASTS_S), *by_pressure())

    ideal = (1 - times * REFUSED_S / SERVED_S) / (1 - REFUSED_S / SERVED_S)  # What refusals cost nobody can serve.
    assert seen.goodput(LASTS_S) >= 0.97 * ideal * PEAK
    assert max(seen.refused_s) < 0.1
    if times <= 3.0:
        assert statistics.quantiles(seen.refused_s, n=100)[98] < 0.05  # From a standing start.
        assert seen.goodput(LASTS_S) >= 0.9 * PEAK


def test_who_admits_all_serves_nobody_in_time() -> None:
    seen = run(arrivals(3 * PEAK, lasts_s=LASTS_S), lambda _turn_s, _now_s: True)

    assert seen.goodput(LASTS_S) < 0.75 * PEAK


@pytest.mark.parametrize("share", [0.3, 0.6, 0.85])
def test_what_can_be_served_is_not_refused(share: float) -> None:
    assert not run(arrivals(share * PEAK, lasts_s=LASTS_S), *by_pressure()).refused_s


def test_a_burst_is_served_whole() -> None:
    burst = [1.0] * 400 + arrivals(0.2 * PEAK, lasts_s=3.0)

    assert not run(burst, *by_pressure()).refused_s


def test_it_ends_when_the_load_does() -> None:
    calm = [3.0 + each for each in arrivals(0.5 * PEAK, lasts_s=1.0)]
    (admits, ended), late = by_pressure(), []

    def noted(turn_s: float, now_s: float) -> bool:
        is_admitted = admits(turn_s, now_s)
        late.extend([now_s] if now_s > 3.0 and not is_admitted else [])
        return is_admitted

    run(arrivals(3 * PEAK, lasts_s=LASTS_S) + calm, noted, ended)

    assert not late


def test_a_process_that_lost_its_core_for_a_while_serves_what_came() -> None:
    admits, ended = by_pressure()
    for turn in range(10):
        turn_s = 1.0 + turn * 2 * STANDING_S
        at_s = turn_s + 1.5 * STANDING_S  # It stood still after the turn began.

        assert all(admits(turn_s, at_s) for _ in range(TURN_LEAST))
        ended(at_s)


def test_one_turn_that_stood_still_refuses_nobody() -> None:
    admits, _ended = by_pressure()

    assert all(admits(2.0, 2.0 + 4 * STANDING_S) for _ in range(2 * TURN_LEAST))


def test_the_turn_in_which_it_has_been_too_much_for_too_long_refuses_already() -> None:
    admits, ended = by_pressure()
    assert admits(1.0, 1.0)
    turn_s = 1.0 + 2 * SHORT_S
    ended(turn_s)  # A long one; since the next began, they stand.
    assert all(admits(turn_s, turn_s + 2 * TURN_S) for _ in range(2 * TURN_LEAST))

    assert not admits(turn_s, turn_s + 1.01 * STANDING_S)


def test_the_limits_leave_room_for_what_was_promised() -> None:
    assert SHORT_S < TURN_S
    assert 2 * TURN_S + STANDING_S < IN_TIME_S


def test_those_who_are_refused_together_are_told_to_come_back_apart() -> None:
    ours = [refusals.spread(refusals.overloaded(4), draw=draw) for draw in range(60)]

    assert {each: ours.count(each) for each in ours} == {4 + more: 10 for more in range(6)}


def test_when_a_limit_has_room_again_is_said_as_it_is() -> None:
    limited = refusals.rate_limited("tokens", 7, headers=b"")

    assert {refusals.spread(limited, draw=draw) for draw in range(60)} == {7}
    assert refusals.spread(refusals.endpoint_paused(), draw=5) is None
