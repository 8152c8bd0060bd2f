"""The world is brought closer to the state, one pass at a time, and left alone when it is there."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest

from libs.common.clock import ManualClock
from libs.common.errors import Rejected, Unavailable
from libs.common.reconciler import BACKOFF_FIRST_MS, BACKOFF_MAX_MS, LOOK_AGAIN_MS, Reconciler, Survey
from libs.common.runner import Runner
from libs.common.store.memory import MemoryStore
from tests.support.tally import Counted, Tally, a_runner, added


@dataclass
class Beans:
    """A world in which a tally is a jar with as many beans."""

    jars: dict[str, int] = field(default_factory=dict)
    observe_fails: Exception | None = None
    apply_fails: Exception | None = None
    observed: list[str] = field(default_factory=list)

    def observe(self, state: Tally) -> Counted:
        """How many beans there are."""
        self.observed.append(state.key)
        if self.observe_fails is not None:
            raise self.observe_fails
        return Counted(count=self.jars.get(state.key, 0))

    def apply(self, action: AddBean) -> None:
        """Make it as many as the action says."""
        if self.apply_fails is not None:
            raise self.apply_fails
        self.jars[action.key] = action.up_to


@dataclass(frozen=True)
class AddBean:
    """One more bean."""

    key: str
    up_to: int


def plan(state: Tally, observed: Counted, _now_ms: int) -> tuple[AddBean, ...]:
    """Two beans in a pass, at most."""
    return tuple(
        AddBean(state.key, number + 1) for number in range(observed.count, min(state.total, observed.count + 2))
    )


class Setting:
    """A reconciler with all that is around it."""

    def __init__(self, *keys: str, total: int = 3) -> None:
        self.clock = ManualClock()
        self.store = MemoryStore()
        self.runner: Runner[Tally] = a_runner(self.store, self.clock)
        self.world = Beans()
        self.reconciler = self.restarted()
        for key in keys or ("t-1",):
            self.runner.take(key, added(key, total))

    def restarted(self, survey: Survey | None = None) -> Reconciler[Tally, Counted, AddBean]:
        """A reconciler that remembers nothing."""
        return Reconciler(
            self.runner, self.world, plan, store=self.store, clock=self.clock, resync_ms=5_000, survey=survey
        )

    def state(self, key: str = "t-1") -> Tally:
        found = self.runner.state(key)
        assert found is not None
        return found


def test_each_pass_brings_the_world_closer_until_it_is_right() -> None:
    it = Setting()

    applied = [it.reconciler.run() for _ in range(4)]

    assert applied == [2, 1, 0, 0]
    assert it.world.jars == {"t-1": 3}
    assert it.state().counted == 3


def test_an_observation_equal_to_the_last_one_writes_nothing() -> None:
    it = Setting()
    for _ in range(3):
        it.reconciler.run()
    written = len(it.store.journal_rows())

    for _ in range(10):
        it.clock.advance(5_000)
        it.reconciler.run()

    assert len(it.store.journal_rows()) == written
    assert it.world.observed.count("t-1") >= 10


def test_what_was_lost_from_the_world_is_made_again_at_the_next_resync() -> None:
    it = Setting()
    for _ in range(3):
        it.reconciler.run()
    it.world.jars.clear()

    assert it.reconciler.run() == 0
    it.clock.advance(5_000)
    applied = [it.reconciler.run() for _ in range(3)]

    assert applied == [2, 1, 0]
    assert it.world.jars == {"t-1": 3}


def test_what_is_at_rest_is_looked_at_only_at_a_resync() -> None:
    it = Setting()
    for _ in range(3):
        it.reconciler.run()
    it.world.observed.clear()

    it.clock.advance(4_999)
    it.reconciler.run()
    assert it.world.observed == []

    it.clock.advance(1)
    it.reconciler.run()
    assert it.world.observed == ["t-1"]


def test_a_world_that_does_not_answer_is_asked_less_and_less_often() -> None:
    it = Setting()
    it.world.observe_fails = Unavailable("away", retry_after_s=0.1, code="platform_unavailable")
    waits: list[int] = []
    last_ms = it.clock.now_ms()
    for _ in range(40_000):
        it.world.observed.clear()
        it.reconciler.run()
        if it.world.observed:
            waits.append(it.clock.now_ms() - last_ms)
            last_ms = it.clock.now_ms()
        it.clock.advance(10)

    assert waits[:8] == [0, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, BACKOFF_MAX_MS]
    assert set(waits[8:]) == {BACKOFF_MAX_MS}


def test_why_nothing_moves_is_said_once_and_taken_back_by_the_next_observation() -> None:
    it = Setting()
    it.world.observe_fails = Unavailable("away", code="platform_unavailable")
    for _ in range(5):
        it.reconciler.run()
        it.clock.advance(BACKOFF_MAX_MS)

    assert it.state().trouble == ("platform_unavailable",)

    it.world.observe_fails = None
    it.reconciler.run()
    assert it.state().trouble == ()


def test_a_world_that_asks_for_patience_gets_it_up_to_a_limit() -> None:
    it = Setting()
    it.world.observe_fails = Unavailable("busy", retry_after_s=7)
    it.reconciler.run()
    it.world.observed.clear()

    it.clock.advance(6_999)
    it.reconciler.run()
    assert it.world.observed == []

    it.clock.advance(1)
    it.world.observe_fails = Unavailable("very busy", retry_after_s=3_600)
    it.reconciler.run()
    it.clock.advance(BACKOFF_MAX_MS)
    it.world.observed.clear()
    it.reconciler.run()
    assert it.world.observed == ["t-1"]


def test_a_poke_ends_the_waiting() -> None:
    it = Setting()
    it.world.observe_fails = Unavailable("away")
    it.reconciler.run()
    it.world.observe_fails = None

    assert it.reconciler.run() == 0
    it.reconciler.poke("t-1")
    it.reconciler.poke("never heard of")

    assert it.reconciler.run() == 2


def test_trouble_is_forgotten_when_it_is_over() -> None:
    it = Setting()
    it.world.apply_fails = Unavailable("away")
    for _ in range(4):
        it.reconciler.run()
        it.clock.advance(BACKOFF_MAX_MS)
    it.world.apply_fails = None
    assert it.reconciler.run() == 2

    it.world.apply_fails = Unavailable("away again")
    it.reconciler.run()
    it.world.apply_fails = None

    assert it.reconciler.run() == 0
    it.clock.advance(BACKOFF_FIRST_MS)
    assert it.reconciler.run() == 1


def test_a_refusal_is_heard_and_not_asked_again_at_once() -> None:
    it = Setting()
    it.world.apply_fails = Rejected("no such class", code="node_type_unknown")

    assert [it.reconciler.run() for _ in range(3)] == [0, 0, 0]

    assert it.state().trouble == ("node_type_unknown",)
    assert it.world.observed == ["t-1"]


def test_a_refusal_says_what_was_asked() -> None:
    it = Setting()
    it.world.apply_fails = Rejected("no such class")
    it.reconciler.run()
    it.world.apply_fails = None
    it.world.observe_fails = Rejected("no such project")
    it.clock.advance(BACKOFF_FIRST_MS)
    it.reconciler.run()

    causes = [row.cause for row in it.store.journal_rows() if row.cause_type == "internal.refused.v1"]

    assert b'"action":"AddBean"' in causes[0]
    assert b'"action":"observe"' in causes[1]


def test_the_trouble_of_one_is_not_the_trouble_of_another() -> None:
    it = Setting("t-1", "t-2")
    observe = it.world.observe

    def observe_or_fail(state: Tally) -> Counted:
        if state.key == "t-1":
            raise Unavailable("away")
        return observe(state)

    it.world.observe = observe_or_fail  # type: ignore[method-assign]  # One jar that can't be reached.

    assert it.reconciler.run() == 2
    assert it.world.jars == {"t-2": 2}


def test_a_mistake_of_ours_ends_the_pass_and_the_next_one_goes_on() -> None:
    it = Setting()
    it.world.apply_fails = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        it.reconciler.run()

    it.world.apply_fails = None

    assert it.reconciler.run() == 2


def test_a_restart_between_any_two_actions_ends_in_the_same_world() -> None:
    it = Setting(total=5)

    for _ in range(6):
        it.restarted().run()

    assert it.world.jars == {"t-1": 5}
    assert it.state().counted == 5


def test_what_comes_and_goes_in_the_world_is_heard_each_time() -> None:
    it = Setting(total=0)
    for count in (1, 0, 1, 0):
        it.world.jars["t-1"] = count
        it.clock.advance(5_000)
        it.reconciler.run()
        assert it.state().counted == count


class Surveyed(Setting):
    """The same with a survey, at rest: everything was looked at and is as wanted."""

    def __init__(self) -> None:
        super().__init__("t-1", "t-2")
        self.failure: Exception | None = None
        self.reconciler = self.restarted(self.survey)
        for _ in range(6):
            self.passes()
        self.world.observed.clear()

    def survey(self) -> dict[str, str]:
        if self.failure is not None:
            raise self.failure
        return {key: f"{beans} beans" for key, beans in self.world.jars.items()}

    def passes(self, *, after_ms: int = 5_000) -> list[str]:
        self.clock.advance(after_ms)
        self.reconciler.run()
        looked, self.world.observed = self.world.observed, []
        return looked


def test_what_a_survey_says_has_not_changed_is_not_looked_at() -> None:
    it = Surveyed()

    assert [it.passes() for _ in range(5)] == [[]] * 5


def test_what_changed_in_the_world_or_in_the_record_is_looked_at() -> None:
    it = Surveyed()

    it.world.jars["t-2"] = 1
    assert it.passes() == ["t-2"]
    while it.passes():
        pass
    assert it.world.jars["t-2"] == 3
    it.runner.take("t-1", added(7, 1))

    assert "t-1" in it.passes()


def test_what_a_survey_does_not_name_is_always_looked_at() -> None:
    it = Surveyed()

    it.reconciler = it.restarted(dict)
    for _ in range(3):
        it.passes()

    assert it.passes() == ["t-1", "t-2"]


@pytest.mark.parametrize("failure", [Unavailable("no list today"), Rejected("no list for you")])
def test_without_a_survey_everything_is_looked_at(failure: Exception) -> None:
    it = Surveyed()
    it.failure = failure

    assert it.passes() == ["t-1", "t-2"]


def test_what_never_seems_to_change_is_looked_at_now_and_then() -> None:
    it = Surveyed()

    looked = it.passes(after_ms=2 * LOOK_AGAIN_MS)

    assert looked == ["t-1", "t-2"]
    assert it.passes() == []


def test_a_poke_has_it_looked_at() -> None:
    it = Surveyed()

    it.reconciler.poke("t-2")

    assert it.passes() == ["t-2"]
