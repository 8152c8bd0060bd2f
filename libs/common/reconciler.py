"""The other half of a service: make the world what the state wants.

Observe, take the observation in as an event, plan, apply. Idempotent and level-triggered: poked by events, repeated by
a timer, nothing depends on having seen one. `decide` changes what we want and never touches the world; `apply`
touches the world and decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final, Generic, Protocol, TypeVar

from libs.common.clock import Clock
from libs.common.errors import Rejected, Unavailable
from libs.common.events.envelope import Envelope
from libs.common.events.event import Internal, Owner
from libs.common.ids import event_id
from libs.common.runner import Runner
from libs.common.store.port import Attention, Store
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


@dataclass(slots=True)
class _Trouble:
    failures: int
    not_before_ms: int


class Reconciler(Generic[S, ObservedT, ActionT]):
    """Brings every attended record of one kind closer to what it wants, one pass at a time."""

    def __init__(
        self,
        runner: Runner[S],
        world: World[S, ObservedT, ActionT],
        plan: Plan[S, ObservedT, ActionT],
        *,
        store: Store,
        clock: Clock,
        resync_ms: int = 5 * SECOND_MS,
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

    def poke(self, key: str) -> None:
        """Look at this record in the next pass even if it was in trouble."""
        self._trouble.pop(key, None)

    def run(self) -> int:
        """One pass over the records that want attention now, and every `resync_ms` over all that are watched.

        Returns how many actions were applied.
        """
        now_ms = self._clock.now_ms()
        at_least = Attention.NOW
        if now_ms >= self._next_resync_ms:
            at_least, self._next_resync_ms = Attention.WATCH, now_ms + self._resync_ms
        return sum(self._bring_closer(key) for key in self._keys(at_least))

    def _keys(self, at_least: Attention) -> Sequence[str]:
        keys: list[str] = []
        page = self._store.attended(self._runner.owned.kind, at_least, limit=KEYS_MAX)
        while page:
            keys += page
            page = self._store.attended(self._runner.owned.kind, at_least, after=page[-1], limit=KEYS_MAX)
        return keys

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
            state = self._learn(key, state, observed)
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

    def _learn(self, key: str, state: S, observed: Internal) -> S:
        """Take an observation in, unless it is the one taken in last: a record at rest writes nothing."""
        seen = f"{observed.kind} {observed.model_dump_json()}"
        if self._last_seen.get(key) == seen:
            return state
        state = self._take(key, observed)
        self._last_seen[key] = seen
        return state

    def _take(self, key: str, event: Internal) -> S:
        now_ms = self._clock.now_ms()
        record = self._store.load(self._runner.owned.kind, key)
        version = record.version if record else 0
        cause = event_id(f"{self._runner.owned.kind}|{key}|{version}", event.model_dump_json(), 0)
        return self._runner.take(key, Envelope(cause, event, subject=key, time_ms=now_ms))

    def _put_off(self, key: str, why: Unavailable) -> None:
        failures = self._trouble[key].failures + 1 if key in self._trouble else 1
        wait_ms = max(round(why.retry_after_s * SECOND_MS), BACKOFF_FIRST_MS * 2 ** min(failures - 1, 6))
        self._trouble[key] = _Trouble(failures, self._clock.now_ms() + min(wait_ms, BACKOFF_MAX_MS))
