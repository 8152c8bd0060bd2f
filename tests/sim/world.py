"""A whole provider in one thread: six real services, one seed, one clock, and everything that can go wrong.

Each step one thing happens: a message is delivered, an outbox is relayed, a reconciler runs, a deadline is looked at, a
customer acts, a request is served, or time passes. A process dies at commits and right behind side effects; what it had
in memory is gone, what it had committed is not. Then the world heals, and everything must come to its end.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Sequence
from typing import Final

from libs.common.bus.memory import Entry, MemoryBroker
from libs.common.bus.port import Message
from libs.common.clock import ManualClock
from libs.common.events.event import Owner
from libs.common.units import MINUTE_MS
from libs.twin.world import World as Twin
from services.metering.core.windows import SETTLE_MS
from services.metering.shell.purse import Limits
from tests.sim.checkers import checkers
from tests.sim.cloud import twin_of
from tests.sim.customers import Customers
from tests.sim.faults import Crash, Faults
from tests.sim.hosts import WINDOW_MS, Host, hosts, runtime_templates
from tests.sim.looks import Checker, Violation
from tests.sim.reading import Readings
from tests.sim.serving import Traffic

COMING_STEPS: Final = 100  # Enough for two endpoints to come and to be changed, with room for trouble.
SERVING_STEPS: Final = 170  # And for them to serve, to change again, to pause and to go.
HEAL_MS_MAX: Final = 8 * MINUTE_MS  # Well within the shortest deadline of a stage.
STEP_MS_MEAN: Final = 120
HEAL_STEP_MS: Final = 3_000
LAST_ROUNDS: Final = 3
RESTING: Final = 0.2  # Of all lives come to rest half-way too; the others go on as soon as something is served.
IDLE_STEP_MS_MAX: Final = 15_000
REORDER_WINDOW: Final = 8
DIED: Final = "died"
AT_REST: Final = "without trouble, the world comes to rest"


class Simulation:
    """One seed. `run` ends without an error, or raises Violation with the seed and what was broken."""

    def __init__(self, seed: int, *, plant: Callable[[Simulation], None] | None = None) -> None:
        self.seed = seed
        self.chance = random.Random(seed)
        self.clock = ManualClock()
        self.faults_drawn = self.faults = Faults.drawn(self.chance)
        self.broker = MemoryBroker(self.clock)
        self.readings = Readings()
        self.limits = Limits()  # Of budgets; nobody sets any unless a story does.
        self.templates = runtime_templates()
        self.twin: Twin = twin_of(self)
        self.hosts: dict[Owner, Host] = hosts(self)
        self.customers = Customers(self)
        self.traffic = Traffic(self)
        self.checkers: Sequence[Checker] = checkers(self)
        self.crashes = 0
        self.is_over = False
        self._trace = hashlib.blake2b(digest_size=16)
        if plant is not None:
            plant(self)
        for host in self.hosts.values():
            host.boot()

    def run(self) -> str:
        """Live through the seed; returns the hash of everything that happened, in order."""
        self._live(COMING_STEPS, traffic=0.05)
        self.customers.wake()
        if self.happens(RESTING):
            self._come_to_rest()
            self._check(finally_=True)
        else:
            self._come_to_rest(or_until=self.traffic.is_served)
        # Now something is served: most of what happens is traffic, and the same troubles are back.
        self.customers.stir()
        self._live(SERVING_STEPS, traffic=0.4)
        self.customers.stop()
        self.customers.delete_all()
        self._come_to_rest()
        for _ in range(LAST_ROUNDS):  # Billing windows close a while after the last that fell into them.
            self._heal_round(WINDOW_MS + SETTLE_MS)
        self.is_over = True
        self._check(finally_=True)
        return self._trace.hexdigest()

    def _live(self, steps: int, *, traffic: float) -> None:
        self.faults = self.faults_drawn
        for _ in range(steps):
            self._step(traffic)
            self._check(finally_=False)
        self.faults = Faults.none()

    def note(self, *what: object) -> None:
        """Add to the trace. Only values that a repeat must give again: no object identities."""
        self._trace.update(("|".join(map(str, what)) + "\n").encode())

    def happens(self, likelihood: float) -> bool:
        """Toss the seed's coin. A chance of zero tosses none, so that healing changes nothing else."""
        return likelihood > 0 and self.chance.random() < likelihood

    def _step(self, traffic: float) -> None:
        """One thing happens."""
        self.clock.advance(round(self.chance.expovariate(1 / STEP_MS_MEAN)))
        self.twin.advance()
        if self.happens(traffic):
            self.traffic.act()
            return
        kind = self.chance.random()
        if kind < 0.45:
            self._deliver_one()
        elif kind < 0.67:
            self._on_one("relay", Host.relay, lambda host: bool(host.store.outbox))
        elif kind < 0.90:
            self._on_one("reconcile", Host.reconcile, lambda host: bool(host.service.reconcilers))
        elif kind < 0.94:
            self._on_one("tick", Host.tick, lambda _: True)
        else:
            self.customers.act()

    def on(self, owner: Owner, what: str, do: Callable[[Host], object]) -> bool:
        """Have a service do something; False if its process died of it. It is born again at once."""
        return self._on(self.hosts[owner], what, do) is not DIED

    def _on(self, host: Host, what: str, do: Callable[[Host], object]) -> object:
        try:
            outcome = do(host)
        except Crash as death:
            self.crashes += 1
            self.note(self.clock.now_ms(), host.name, what, "crashed", death)
            host.die()
            host.boot()
            return DIED
        self.note(self.clock.now_ms(), host.name, what, outcome)
        return outcome

    def _on_one(self, what: str, do: Callable[[Host], object], has_work: Callable[[Host], bool]) -> None:
        candidates = [each for each in self.hosts.values() if has_work(each)]
        if candidates:
            self._on(self.chance.choice(candidates), what, do)

    def _deliver_one(self) -> None:
        waiting = [(host, name) for host in self.hosts.values() for name in host.consumers if self.broker.due(name)]
        if not waiting:
            return
        host, consumer = self.chance.choice(waiting)
        due = self.broker.due(consumer)
        place = self.chance.randrange(min(len(due), REORDER_WINDOW)) if self.happens(self.faults.reordered) else 0
        entry = due[place]
        for _ in range(2 if self.happens(self.faults.duplicated) else 1):
            if self._hand(host, consumer, entry) is DIED:
                return

    def _hand(self, host: Host, consumer: str, entry: Entry) -> object:
        if self.happens(self.faults.ack_lost):
            return self._on(
                host, f"unacked {entry.message.subject}", lambda h: h.handle_without_answer(consumer, entry)
            )
        return self._on(host, f"got {entry.message.subject}", lambda _: self.broker.deliver(consumer, entry))

    def publish(self, messages: Sequence[Message]) -> int:
        """The bus as a relay sees it: it may lose a message, or store it and lose the answer."""
        for count, message in enumerate(messages):
            if self.happens(self.faults.publish_lost):
                return count
            self.broker.store(message)
            self.crash_maybe(self.faults.crash_after_effect, f"published {message.subject}")
            if self.happens(self.faults.puback_lost):
                return count
        return len(messages)

    def crash_maybe(self, likelihood: float, where: str) -> None:
        """Die here, perhaps."""
        if self.happens(likelihood):
            raise Crash(where)

    def _come_to_rest(self, *, or_until: Callable[[], bool] = lambda: False) -> None:
        until_ms = self.clock.now_ms() + HEAL_MS_MAX
        step_ms = HEAL_STEP_MS
        while self.clock.now_ms() < until_ms:
            busy = self._heal_round(step_ms)
            if or_until():
                return
            if busy:
                step_ms = HEAL_STEP_MS
            elif not self._unrest():
                return
            else:  # All that is left is waiting for its time.
                step_ms = min(2 * step_ms, IDLE_STEP_MS_MAX)
        raise Violation(self, AT_REST, self._unrest())

    def _heal_round(self, step_ms: int) -> bool:
        """Everybody once, without trouble; whether anybody did anything."""
        self.clock.advance(step_ms)
        self.twin.advance()
        self.customers.mend()
        busy = self.traffic.finish()
        for host in self.hosts.values():  # Each hears, acts and tells, so that a round takes news a long way.
            for consumer in host.consumers:
                for entry in self.broker.due(consumer):
                    busy = True
                    self._hand(host, consumer, entry)
            busy |= bool(self._on(host, "tick", Host.tick))
            busy |= bool(self._on(host, "reconcile", Host.reconcile))
            busy |= bool(self._on(host, "relay", Host.relay))
        self._check(finally_=False)
        return busy

    def _unrest(self) -> str:
        reasons = [f"{name} has messages" for name, inbox in self.broker.inboxes.items() if inbox.entries]
        reasons += [reason for host in self.hosts.values() if (reason := host.unrest())]
        reasons += self.customers.unrest()
        return "; ".join(reasons)

    def _check(self, *, finally_: bool) -> None:
        for checker in self.checkers:
            broken = checker.finally_(self) if finally_ else checker.always(self)
            if broken:
                raise Violation(self, checker.promise, broken)
