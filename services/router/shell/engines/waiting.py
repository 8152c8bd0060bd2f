"""Giving requests their replica: at once, when it is their turn, or not at all, and then at once.

A request waits where all replicas have as much to do as they may, and where an endpoint has none for a while: it
sleeps, and whoever comes first wakes it (what waits counts as traffic), its only one is being replaced (decision
0020), or the last one went and nobody said that there will be no other. One whose replica went before its client had
any of an answer comes back, before all others. All who wait are served by the replicas that come.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from services.router.core import affinity, balancing, openai, refusals
from services.router.core.queueing import Turned, Waiter, waiting_max
from services.router.core.sharing import TURN_S
from services.router.shell import metrics
from services.router.shell.engines.target import Held, Seat, Target, Waits


@dataclass(frozen=True, slots=True)
class Places:
    """How much a replica may have to do, how long a request waits for that, and which replica it is then."""

    outstanding_max: int = 256  # vLLM's own default of sequences at once; more would wait inside, out of our sight.
    queue_s: float = 30.0  # As long as we wait for a first byte.
    wake_s: float = 300.0  # From nothing to a loaded model: minutes. Clients of OpenAI wait ten.
    rules: balancing.Rules = balancing.DEFAULT


class WaitingRoom:
    """Knows who waits, of every endpoint. Called from the event loop alone."""

    def __init__(self, places: Places, now_s: Callable[[], float]) -> None:
        self._places = places
        self._now_s = now_s
        self._waiting: dict[Waits, tuple[Target, Waiter[Held]]] = {}
        self._serving: Target | None = None
        self.on_asleep: Callable[[], None] = lambda: None  # Somebody waits for an endpoint without replicas.

    def enter(self, request: Waits, target: Target, *, ask: openai.Ask, lane: str) -> None:
        """Seat the request now, or later, or turn it away: it is told."""
        places, adapter, now_s = self._places, ask.adapter, self._now_s()
        prompt: affinity.Marks = ()
        if len(target.seats) > 1:
            prompt = affinity.marks(openai.prompt_bytes(ask), session=ask.session, adapter=adapter)
        if not target.queue.crowd or self._is_first(target, now_s, is_batch=ask.is_batch):
            most = places.outstanding_max
            seat = target.choose(now_s=now_s, outstanding_max=most, prompt=prompt, adapter=adapter, rules=places.rules)
            if seat is not None:
                seat.taken(now_s)
                request.seated(seat)
                return
        is_asleep = not target.seats
        if is_asleep and not self.holds(target):
            request.turned_away(refusals.no_replica())
            return
        wait_s = places.wake_s if is_asleep else places.queue_s
        held = Held(request, prompt, adapter)
        self._queue(target, Waiter(held, lane, now_s + wait_s, ask.is_batch), now_s)

    def enter_again(
        self, request: Waits, target: Target, *, ask: openai.Ask, lane: str, failed: Seat, since_s: float
    ) -> None:
        """Its replica went, the first of them ``since_s``: seat it where one is well, or as soon as one is."""
        wait_s = self._places.queue_s if target.seats else self._places.wake_s
        waiter = Waiter(Held(request, (), ask.adapter, failed), lane, since_s + wait_s, ask.is_batch)
        is_first = not target.queue
        target.queue.put_back(waiter)  # It was let in: neither the queue's length nor another's turn keeps it out.
        self._waiting[request] = (target, waiter)
        metrics.WAITING.inc()
        if is_first and not target.seats:
            self.on_asleep()
        self.serve(target)

    def holds(self, target: Target) -> bool:
        """Whether who finds no replica there may wait for one."""
        return target.entry.keeps_waiting or self._now_s() < target.hopes_until_s

    def leave(self, request: Waits) -> None:
        """It is over, whether it waits or not."""
        target, waiter = self._waiting.pop(request, (None, None))
        if target is not None and waiter is not None:
            target.queue.remove(waiter)
            metrics.WAITING.dec()

    def serve(self, target: Target) -> None:
        """Let in as many as there are places for: one was given back, or replicas came."""
        if target is self._serving:
            return  # One that was seated gave its place back at once: the loop below goes on with it.
        now_s, before, self._serving = self._now_s(), self._serving, target
        passed_over: list[Waiter[Held]] = []
        queue = target.queue
        while self._has_share(target, now_s, queue.lanes) and (waiter := queue.take(now_s)) is not None:
            held = waiter.request
            seat = self._free(target, held, now_s)
            if seat is not None:
                self._called(waiter).seated(seat)
                continue
            passed_over.append(waiter)
            if not held.adapter:
                break  # One that waits for an adapter lets others by; where this one finds no place, nobody does.
        for waiter in reversed(passed_over):
            target.queue.put_back(waiter)
        self._serving = before

    def changed(self, target: Target, is_routed: bool) -> None:
        """The endpoint's route changed, or is gone."""
        if is_routed and not target.entry.paused:
            if target.hopes_until_s == math.inf:
                self._hope(target)
            self.serve(target)
            return
        name = target.entry.name
        refusal = refusals.endpoint_paused() if is_routed else refusals.model_not_found(name)
        for waiter in target.queue.clear():
            self._called(waiter).turned_away(refusal)

    def sweep(self) -> None:
        """Look at the deadlines, and at places that became free without our knowing: by other workers, or by time."""
        now_s = self._now_s()
        for target in {id(each): each for each, _ in self._waiting.values()}.values():
            for waiter in target.queue.expired(now_s):
                self._turn_away(target, waiter, Turned.LATE)
            self.serve(target)

    def close(self) -> None:
        """The process goes: nobody waits any longer."""
        for target in {id(each): each for each, _ in self._waiting.values()}.values():
            for waiter in target.queue.clear():
                self._called(waiter).turned_away(refusals.stopping())

    def _hope(self, target: Target) -> None:
        """Its last replica went: who waits already waits for another as long as who comes now."""
        target.hopes_until_s = until_s = self._now_s() + self._places.wake_s
        for waiter in target.queue:
            waiter.deadline_s = max(waiter.deadline_s, until_s)

    def _queue(self, target: Target, waiter: Waiter[Held], now_s: float) -> None:
        places = self._places.outstanding_max * max(1, len(target.seats))
        is_first = not target.queue
        others = target.queue.others
        ahead = len(target.queue) + sum(others.requests)
        wait_s = target.service.wait_s(ahead=ahead, places=places) if target.seats else 0.0
        most = others.room(waiting_max(places))
        turned = target.queue.add(waiter, waiting_max=most, wait_s=wait_s, now_s=now_s)
        if turned is None or turned[1] is not waiter:
            self._waiting[waiter.request.request] = (target, waiter)
            metrics.WAITING.inc()
        if turned is not None:
            self._turn_away(target, turned[1], turned[0])
        if is_first and not target.seats:
            self.on_asleep()

    def _is_first(self, target: Target, now_s: float, *, is_batch: bool) -> bool:
        """Whether it goes before all who wait: they do so in other workers, and this one has less than its share."""
        return not target.queue.count and self._has_share(target, now_s, 0 if is_batch else 1)

    def _has_share(self, target: Target, now_s: float, lanes: int) -> bool:
        """Whether one more place may be filled by this worker, in which so many lanes wait."""
        others = target.queue.others
        if not any(others.lanes):
            return True
        running = sum(each.outstanding - each.outstanding_elsewhere for each in target.seats)
        places = self._places.outstanding_max * len(target.seats)
        return running < others.share(places, lanes=lanes, turn=int(now_s) // TURN_S)

    def _free(self, target: Target, held: Held, now_s: float) -> Seat | None:
        """The replica for one that has waited, taken for it; None if there is none yet."""
        most, adapter, rules = self._places.outstanding_max, held.adapter, self._places.rules
        if held.failed is not None:
            seat = target.choose_again(held.failed, now_s=now_s, outstanding_max=most, adapter=adapter)
        else:
            seat = target.choose(now_s=now_s, outstanding_max=most, prompt=held.prompt, adapter=adapter, rules=rules)
        if seat is not None:
            seat.taken(now_s)
        return seat

    def _called(self, waiter: Waiter[Held]) -> Waits:
        """Whose turn it is; it waits no longer."""
        request = waiter.request.request
        if self._waiting.pop(request, None) is not None:
            metrics.WAITING.dec()
        return request

    def _turn_away(self, target: Target, waiter: Waiter[Held], why: Turned) -> None:
        metrics.SHED.labels(why=why).inc()
        places = self._places.outstanding_max * len(target.seats)
        after_s = max(1, math.ceil(target.service.wait_s(ahead=len(target.queue), places=places)))
        refusal = refusals.too_many_waiting(after_s) if why is Turned.SHARE else refusals.overloaded(after_s)
        if waiter.request.failed is not None:
            refusal = refusals.upstream_failed()
        elif not target.seats:
            refusal = refusals.no_replica()
        self._called(waiter).turned_away(refusal)
