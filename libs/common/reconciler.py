"""The other half of a service: make the world what the state wants.

Observe, take the observation in as an event, plan, apply. Idempotent and level-triggered: poked by events, repeated by
a timer, nothing depends on having seen one. `decide` changes what we want and never touches the world; `apply`
touches the world and decides nothing.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Final, Generic, Protocol, TypeVar

from libs.common.clock import Clock
from libs.common.errors import Rejected, Unavailable
from libs.common.events.envelope import Envelope
from libs.common.events.event import Internal, Owner
from libs.common.ids import event_id
from libs.common.runner import Runner, take_all
from libs.common.store.port import Attention, Glance, Store
from libs.common.units import MINUTE_MS, SECOND_MS

S = TypeVar("S")
ObservedT = TypeVar("ObservedT", bound=Internal)
ActionT = TypeVar("ActionT")
S_in = TypeVar("S_in", contravariant=True)
Observed_out = TypeVar("Observed_out", bound=Internal, covariant=True)
Action_in = TypeVar("Action_in", contravariant=True)

BACKOFF_FIRST_MS: Final = 1 * SECOND_MS
BACKOFF_MAX_MS: Final = 1 * MINUTE_MS  # A world that was away longer is noticed within a minute of its return.
KEYS_MAX: Final = 1000  # Records handled in one pass.
LOOK_AGAIN_MS: Final = 10 * MINUTE_MS  # What seems unchanged is looked at this often all the same, spread by half.

News = Sequence[tuple[Runner[Any], str, Internal]]
PassesOn = Callable[[S, ObservedT], News]
"""What a look at one thing means for records of other kinds: told to them in the commit that takes the look in."""

Survey = Callable[[], Mapping[str, str]]
"""The world at a glance: a mark for each thing in it, by its key, that is another as soon as a look may be."""


class Refused(Internal):
    """The world said no for good to something we asked of it."""

    kind: ClassVar[str] = "internal.refused"
    owner: ClassVar[Owner] = Owner.ENDPOINT_API  # Whoever owns the record; an internal event has no other reader.

    action: str
    code: str
    message: str


class Delayed(Internal):
    """The world did not answer, or can't do it yet: why nothing moves. The reconciler tries again by itself."""

    kind: ClassVar[str] = "internal.delayed"
    owner: ClassVar[Owner] = Owner.ENDPOINT_API  # Whoever owns the record; an internal event has no other reader.

    code: str
    message: str


class World(Protocol[S_in, Observed_out, Action_in]):
    """An adapter as a reconciler sees it. Both raise Unavailable (later) or Rejected (never)."""

    def observe(self, state: S_in) -> Observed_out:
        """What is there of this thing. Unknown is Unavailable, never absent."""

    def apply(self, action: Action_in) -> None:
        """Do one thing; doing it again changes nothing."""


Plan = Callable[[S, ObservedT, int], tuple[ActionT, ...]]


@dataclass(frozen=True, slots=True)
class _Rest:
    """A record as it was when a look at it had no consequence, what its mark was before, and until when that counts."""

    version: int
    mark: str
    until_ms: int


@dataclass(slots=True)
class _Trouble:
    failures: int
    not_before_ms: int


class Reconciler(Generic[S, ObservedT, ActionT]):
    """Brings every attended record of one kind closer to what it wants, one pass at a time.

    With a `survey`, a record that is only watched and whose mark and version stayed as they were is not looked at: a
    world at rest costs one survey a pass. It is a hint and no more, so each is looked at now and then all the same.
    """

    def __init__(
        self,
        runner: Runner[S],
        world: World[S, ObservedT, ActionT],
        plan: Plan[S, ObservedT, ActionT],
        *,
        store: Store,
        clock: Clock,
        resync_ms: int = 5 * SECOND_MS,
        survey: Survey | None = None,
        passes_on: PassesOn[S, ObservedT] | None = None,
    ) -> None:
        self._runner = runner
        self._world = world
        self._plan = plan
        self._store = store
        self._clock = clock
        self._resync_ms = resync_ms
        self._next_resync_ms = 0
        self._trouble: dict[str, _Trouble] = {}
        self._last_seen: dict[str, str] = {}
        self._survey = survey
        self._passes_on = passes_on
        self._resting: dict[str, _Rest] = {}
        self.is_at_rest = False  # Whether the last pass found nothing in motion.

    def poke(self, key: str) -> None:
        """Look at this record in the next pass even if it was in trouble."""
        self._trouble.pop(key, None)
        self._resting.pop(key, None)

    def run(self) -> int:
        """One pass over the records that want attention now, and every `resync_ms` over all that are watched.

        Returns how many actions were applied.
        """
        now_ms = self._clock.now_ms()
        if now_ms < self._next_resync_ms:
            glances = self._glances(Attention.NOW)
            self.is_at_rest = not glances
            return sum(self._bring_closer(each.key) for each in glances)
        self._next_resync_ms = now_ms + self._resync_ms
        marks = self._marks()
        glances = self._glances(Attention.WATCH)
        self.is_at_rest = all(each.attention is Attention.WATCH for each in glances)
        self._forget_but({each.key for each in glances})
        return sum(self._look_over(each, marks.get(each.key, "")) for each in glances)

    def _marks(self) -> Mapping[str, str]:
        """Nothing if the world can't be surveyed, or refuses: then everything is looked at, and says so itself."""
        if self._survey is None:
            return {}
        try:
            return self._survey()
        except (Unavailable, Rejected):
            return {}

    def _glances(self, at_least: Attention) -> Sequence[Glance]:
        found: list[Glance] = []
        page = self._store.glances(self._runner.owned.kind, at_least, limit=KEYS_MAX)
        while page:
            found += page
            page = self._store.glances(self._runner.owned.kind, at_least, after=page[-1].key, limit=KEYS_MAX)
        return found

    def _look_over(self, glance: Glance, mark: str) -> int:
        """Look at a record, unless nothing has changed since a look that had no consequence."""
        key, now_ms = glance.key, self._clock.now_ms()
        rest = self._resting.get(key)
        is_rest = rest is not None and mark and (rest.version, rest.mark) == (glance.version, mark)
        if is_rest and rest is not None and now_ms < rest.until_ms and glance.attention is Attention.WATCH:
            return 0
        self._resting.pop(key, None)
        applied = self._bring_closer(key)
        if mark and not applied and key not in self._trouble:
            # A look that wrote something raised the version, so that the next pass looks again.
            spread = 500 + zlib.crc32(key.encode()) % 1000
            self._resting[key] = _Rest(glance.version, mark, now_ms + LOOK_AGAIN_MS * spread // 1000)
        return applied

    def _forget_but(self, attended: set[str]) -> None:
        """Nothing is remembered of a record that nobody follows any more."""
        for memory in (self._trouble, self._last_seen, self._resting):
            for key in [each for each in list(memory) if each not in attended]:  # Others poke meanwhile.
                memory.pop(key, None)

    def _bring_closer(self, key: str) -> int:
        trouble = self._trouble.get(key)
        if trouble is not None and self._clock.now_ms() < trouble.not_before_ms:
            return 0
        applied = 0
        action: Any = None
        state = self._runner.state(key)
        assert state is not None, key
        try:
            observed = self._world.observe(state)
            news = self._passes_on(state, observed) if self._passes_on is not None else ()
            state = self._learn(key, state, observed, news)
            for action in self._plan(state, observed, self._clock.now_ms()):
                self._world.apply(action)
                applied += 1
        except Unavailable as later:
            self._learn(key, state, Delayed(code=later.code, message=str(later)))
            self._put_off(key, later)
            return applied
        except Rejected as refusal:
            name = type(action).__name__ if action is not None else "observe"
            self._learn(key, state, Refused(action=name, code=refusal.code, message=str(refusal)))
            self._put_off(key, Unavailable(str(refusal)))
            return applied
        self._trouble.pop(key, None)
        return applied

    def _learn(self, key: str, state: S, observed: Internal, news: News = ()) -> S:
        """Take an observation in, unless it is the one taken in last: a record at rest writes nothing."""
        said = observed.model_dump_json()
        seen = f"{observed.kind} {said}"
        if self._last_seen.get(key) == seen:
            return state
        state = self._take(key, observed, said, news)
        self._last_seen[key] = seen
        return state

    def _take(self, key: str, event: Internal, said: str, news: News) -> S:
        now_ms = self._clock.now_ms()
        record = self._store.load(self._runner.owned.kind, key)
        version = record.version if record else 0
        cause = event_id(f"{self._runner.owned.kind}|{key}|{version}", said, 0)
        envelope = Envelope(cause, event, subject=key, time_ms=now_ms)
        others = [(runner, other, replace(envelope, data=told)) for runner, other, told in news]
        state: S = take_all([(self._runner, key, envelope), *others])[0]
        return state

    def _put_off(self, key: str, why: Unavailable) -> None:
        failures = self._trouble[key].failures + 1 if key in self._trouble else 1
        wait_ms = max(round(why.retry_after_s * SECOND_MS), BACKOFF_FIRST_MS * 2 ** min(failures - 1, 6))
        self._trouble[key] = _Trouble(failures, self._clock.now_ms() + min(wait_ms, BACKOFF_MAX_MS))
