"""A process with more to do than it can: simulated turns of an event loop, costs as they were measured."""

from __future__ import annotations

import random
import statistics
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from services.router.core import refusals
from services.router.core.pressure import (
    PACE_S,
    REFUSED_MOST,
    ROOM_FIRST,
    ROOM_LEAST,
    ROOM_MAX,
    TURN_LEAST,
    TURN_S,
    WAIT_S,
    Pressure,
)

SERVED_S = 0.0002  # What a request costs, half when it is taken on and half when its engine answers,
WAITED_S = 0.000005  # what one more that has to wait for that,
REFUSED_S = 0.00001  # and what it costs to send one away.
ENGINE_S = 0.02
IN_TIME_S = 1.2
LASTS_S = 4.0
PEAK = 1 / SERVED_S


@dataclass
class Seen:
    """What became of the requests of one run."""

    served_s: list[float] = field(default_factory=list)
    refused_s: list[float] = field(default_factory=list)

    def goodput(self, lasted_s: float) -> float:
        return sum(each <= IN_TIME_S for each in self.served_s) / lasted_s


class NoLimit(Pressure[float]):
    """Everybody may wait, planted."""

    def ended(self, now_s: float) -> bool:
        left = super().ended(now_s)
        self.room = 10**9
        return left


class NoMercy(Pressure[float]):
    """Everybody who finds no room is refused in the same turn, planted."""

    def refuses(self, *, has_room: bool = True) -> bool:
        self._refused = 0
        return super().refuses(has_room=has_room)


class Loop:
    """Each turn handles what had come when it began, answers of engines first, as the router's own shell does."""

    def __init__(self, arrivals: list[float], pressure: Pressure[float] | None, *, again_until_s: float = 0.0) -> None:
        self.pressure = pressure or Pressure()
        self.seen = Seen()
        self._coming = deque(sorted(arrivals))
        self._answers = deque[tuple[float, float]]()
        self._now_s = 0.0
        self._again_until_s = again_until_s  # Until then, whoever was answered asks again at once.

    def run(self) -> Seen:
        coming, answers, pressure, is_due = self._coming, self._answers, self.pressure, False
        while coming or answers or is_due:
            if not is_due:
                nexts_s = [coming[0]] if coming else []
                self._now_s = max(self._now_s, min([*nexts_s, *(each for each, _ in list(answers)[:1])]))
            turn_s = self._now_s
            while answers and answers[0][0] <= turn_s:
                self._now_s += SERVED_S / 2
                came_s = answers.popleft()[1]
                self.seen.served_s.append(self._now_s - came_s)
                self._again()
            self._read(turn_s)
            pressure.serves(self._now_s)
            while (served := pressure.next_served(self._now_s)) is not None:
                self._take_on(served)
            while (refused := pressure.next_refused()) is not None:
                self._send_away(refused)
            is_due = pressure.ended(self._now_s)
        return self.seen

    def _read(self, turn_s: float) -> None:
        coming, pressure = self._coming, self.pressure
        surely = pressure.began(self._now_s)
        while coming and coming[0] <= turn_s:
            came_s, is_admitted = coming.popleft(), False
            if not pressure.is_crowded:
                surely -= 1
                is_admitted = surely >= 0 or pressure.admits(self._now_s)
            if is_admitted:
                self._take_on(came_s)
            elif pressure.refuses():
                self._send_away(came_s)
            else:
                self._now_s += WAITED_S
                pressure.put(came_s)

    def _take_on(self, came_s: float) -> None:
        self._now_s += SERVED_S / 2
        self._answers.append((self._now_s + ENGINE_S, came_s))

    def _send_away(self, came_s: float) -> None:
        self._now_s += REFUSED_S
        self.seen.refused_s.append(self._now_s - came_s)
        self._again()

    def _again(self) -> None:
        if self._now_s < self._again_until_s:
            self._coming.append(self._now_s + 0.0001)


def run(arrivals: list[float], pressure: Pressure[float] | None = None) -> Seen:
    return Loop(arrivals, pressure).run()


def arrivals(per_s: float, *, lasts_s: float, seed: int = 7) -> list[float]:
    chance, at_s, found = random.Random(seed), 0.0, []
    while at_s < lasts_s:
        at_s += chance.expovariate(per_s)
        found.append(at_s)
    return found


@pytest.mark.parametrize("times", [1.5, 3.0, 5.0])
def test_goodput_under_overload_stays_near_the_peak_and_refusals_are_quick(times: float) -> None:
    seen = run(arrivals(times * PEAK, lasts_s=LASTS_S))

    # What refusals cost nobody can serve, nor what is still waiting when no more comes: that is served in time, too.
    ideal = (1 - times * REFUSED_S / SERVED_S) / (1 - REFUSED_S / SERVED_S)
    assert seen.goodput(LASTS_S) >= 0.95 * ideal * PEAK
    assert statistics.quantiles(seen.refused_s, n=100)[98] < 0.05
    if times <= 3.0:
        assert seen.goodput(LASTS_S) >= 0.9 * PEAK


def test_where_everybody_may_wait_hardly_anybody_is_served_in_time() -> None:
    seen = run(arrivals(3 * PEAK, lasts_s=LASTS_S), NoLimit())

    assert not seen.refused_s
    assert seen.goodput(LASTS_S) < 0.5 * PEAK


@pytest.mark.parametrize("share", [0.3, 0.6, 0.85])
def test_what_can_be_served_is_not_refused(share: float) -> None:
    assert not run(arrivals(share * PEAK, lasts_s=LASTS_S)).refused_s


def test_a_burst_is_served_whole_if_it_can_be_in_time() -> None:
    burst = [1.0] * int(0.8 * WAIT_S * PEAK) + arrivals(0.2 * PEAK, lasts_s=3.0)

    seen = run(burst)

    assert not seen.refused_s
    assert max(seen.served_s) < IN_TIME_S


def test_it_ends_when_the_load_does() -> None:
    calm = [LASTS_S + 1 + each for each in arrivals(0.5 * PEAK, lasts_s=1.0)]
    pressure: Pressure[float] = Pressure()
    run(arrivals(3 * PEAK, lasts_s=LASTS_S), pressure)

    assert pressure.is_empty
    assert not pressure.is_crowded
    assert not run(calm, pressure).refused_s


def test_those_who_ask_again_at_once_leave_most_of_the_time_to_the_served() -> None:
    def goodput(clients: int, pressure: Pressure[float]) -> float:
        return Loop([0.0] * clients, pressure, again_until_s=LASTS_S).run().goodput(LASTS_S)

    assert goodput(16_000, Pressure()) > 0.6 * PEAK
    assert goodput(16_000, NoMercy()) < 0.3 * PEAK


def crowded(count: int) -> Pressure[int]:
    """So many wait, after a turn that took on what it could."""
    pressure: Pressure[int] = Pressure()
    pressure.began(1.0)
    assert not pressure.admits(1.0 + TURN_S)
    for each in range(count):
        pressure.put(each)
    return pressure


def turns(pressure: Pressure[int], *, took_s: float, begins_s: float = 2.0) -> Iterator[list[int]]:
    """Who is served in each turn, when to take one on takes so long."""
    now_s, is_left = begins_s, True
    while is_left:
        pressure.serves(now_s)
        served = []
        while (each := pressure.next_served(now_s)) is not None:
            now_s += took_s
            served.append(each)
        is_left = pressure.ended(now_s)
        yield served


def test_who_came_first_is_served_first_and_who_comes_meanwhile_goes_behind_them() -> None:
    pressure = crowded(200)
    rest = turns(pressure, took_s=TURN_S / 100)

    first = next(rest)
    assert pressure.is_crowded
    pressure.put(200)

    assert first + [each for served in rest for each in served] == list(range(201))
    assert 99 <= len(first) <= 101
    assert not pressure.is_crowded


def test_a_process_that_lost_its_core_serves_some_in_each_turn() -> None:
    pressure = crowded(3 * TURN_LEAST)

    assert [len(served) for served in turns(pressure, took_s=10 * TURN_S)] == [TURN_LEAST] * 3
    assert pressure.began(5.0) == TURN_LEAST


def test_how_many_may_wait_goes_by_the_pace_at_which_they_are_served() -> None:
    def room(took_s: float) -> int:
        pressure = crowded(ROOM_FIRST)
        for _ in turns(pressure, took_s=took_s):
            pass
        return pressure.room

    assert room(0.0002) == pytest.approx(WAIT_S / 0.0002, rel=0.05)
    assert room(0.01) == ROOM_LEAST
    assert room(0.000001) == ROOM_FIRST  # It was over before there was a pace to speak of.
    assert room(PACE_S / ROOM_FIRST * 1.2) == ROOM_MAX


def test_who_finds_no_room_is_refused_at_once_but_not_more_than_some_in_a_turn() -> None:
    pressure = crowded(ROOM_FIRST)

    assert [pressure.refuses() for _ in range(REFUSED_MOST + 2)] == [True] * REFUSED_MOST + [False] * 2
    pressure.put(-1)
    pressure.put(-2)
    assert pressure.next_refused() is None
    pressure.ended(2.0)
    assert not pressure.refuses()  # Not before those.
    assert [pressure.next_refused() for _ in range(3)] == [-1, -2, None]


def test_where_the_bytes_of_those_who_wait_are_too_many_there_is_no_room_either() -> None:
    pressure = crowded(1)

    assert not pressure.refuses()
    assert pressure.refuses(has_room=False)


def test_the_limits_leave_room_for_what_was_promised() -> None:
    assert WAIT_S + 2 * TURN_S < IN_TIME_S
    assert ROOM_LEAST < ROOM_FIRST < ROOM_MAX


def test_those_who_are_refused_together_are_told_to_come_back_apart() -> None:
    ours = [refusals.spread(refusals.overloaded(4), draw=draw) for draw in range(60)]

    assert {each: ours.count(each) for each in ours} == {4 + more: 10 for more in range(6)}


def test_when_a_limit_has_room_again_is_said_as_it_is() -> None:
    limited = refusals.rate_limited("tokens", 7, headers=b"")

    assert {refusals.spread(limited, draw=draw) for draw in range(60)} == {7}
    assert refusals.spread(refusals.endpoint_paused(), draw=5) is None
