"""What customers may wish of an endpoint that they have: a change, a pause, a way back, another mind."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from pydantic import JsonValue

from libs.common.events.endpoint import Adapter, Stage
from services.endpoint_api.core.caller import Ask, Caller
from services.endpoint_api.core.planning import PlanView
from services.endpoint_api.core.state import Endpoint, Outcome
from services.endpoint_api.core.status import OperationView
from services.endpoint_api.shell.api import Api
from tests.sim.cloud import ODD_MODEL

GOOD_MODEL: Final = "millrace/ngram-1"
TONE: Final = Adapter(name="tone", source="acme/tone-lora", rank=16)
MODELS: Final = (GOOD_MODEL, ODD_MODEL)
RUNS: Final = frozenset({Stage.READY, Stage.DEGRADED, Stage.UPDATING})
LIES: Final = frozenset({Stage.PAUSED, Stage.PAUSING, Stage.FAILED})
ENDED: Final = frozenset({Stage.DRAINING, Stage.DELETING, Stage.DELETED})
DRAIN_S_MAX: Final = 5


@dataclass(frozen=True, slots=True)
class Wish:
    """One command, that may be asked again with its key until somebody answers."""

    what: str
    ask: Callable[[Api], OperationView | PlanView]


class Wishing:
    """Draws wishes, each with an Idempotency-Key of its own."""

    def __init__(self, chance: random.Random, caller: Caller, hosts: Sequence[str] = ()) -> None:
        self._chance = chance
        self._hosts = hosts
        self._caller = caller
        self._count = 0

    def of(self, endpoint: Endpoint) -> Wish:
        """Something that a customer may want of this endpoint as it stands; sometimes what makes no sense there."""
        if endpoint.stage in LIES and self._chance.random() < 0.6:
            return self.resume(endpoint)
        lie = self._chance.choice((self.pause, self.drain))
        draw = self._chance.choice((self.update, self.update, self.update, self.scale, lie, self.resume, self.cancel))
        return draw(endpoint)

    def update(self, endpoint: Endpoint) -> Wish:
        """Another model, another host name, or other limits."""
        changes: dict[str, JsonValue] = {"limits": {"requests_per_minute": self._chance.choice((100, 1_000, 10_000))}}
        if self._hosts and self._chance.random() < 0.3:
            changes = {"hostname": self._chance.choice((None, *self._hosts))}
        elif self._chance.random() < 0.7:
            changes = {"model": self._chance.choice(MODELS)}
        elif endpoint.spec is not None and not endpoint.spec.adapters:
            changes = {"adapters": [TONE.model_dump(mode="json")]}
        elif self._count % 2:
            changes = {"adapters": None}
        ask = self._next("update")
        return Wish(
            f"update {endpoint.id} {sorted(changes)}",
            lambda api: api.endpoints.update(ask, endpoint.id, changes=changes),
        )

    def repair(self, endpoint: Endpoint) -> Wish:
        """What failed is asked for again, with the model that is known to load."""
        assert endpoint.spec is not None, endpoint
        return self.resume(endpoint) if endpoint.spec.model == GOOD_MODEL else self.change_model(endpoint)

    def change_model(self, endpoint: Endpoint) -> Wish:
        """The model that it does not have."""
        assert endpoint.spec is not None, endpoint
        other = next(each for each in MODELS if each != endpoint.spec.model)
        ask = self._next("update")
        return Wish(
            f"update {endpoint.id} to {other}",
            lambda api: api.endpoints.update(ask, endpoint.id, changes={"model": other}),
        )

    def scale(self, endpoint: Endpoint) -> Wish:
        """Other limits of how many."""
        fewest = self._chance.choice((1, 1, 2))
        scaling: dict[str, JsonValue] = {"min": fewest, "max": fewest + self._chance.choice((0, 1))}
        ask = self._next("scale")
        return Wish(f"scale {endpoint.id}", lambda api: api.endpoints.scale(ask, endpoint.id, scaling=scaling))

    def pause(self, endpoint: Endpoint) -> Wish:
        """Not now."""
        ask = self._next("pause")
        return Wish(f"pause {endpoint.id}", lambda api: api.endpoints.pause(ask, endpoint.id))

    def drain(self, endpoint: Endpoint) -> Wish:
        """Not now, and what runs may end."""
        deadline_s = self._chance.randint(0, DRAIN_S_MAX)
        ask = self._next("drain")
        return Wish(
            f"drain {endpoint.id}", lambda api: api.endpoints.drain(ask, endpoint.id, drain_deadline_s=deadline_s)
        )

    def resume(self, endpoint: Endpoint) -> Wish:
        """Again: what was paused, or what failed."""
        ask = self._next("resume")
        return Wish(f"resume {endpoint.id}", lambda api: api.endpoints.resume(ask, endpoint.id))

    def cancel(self, endpoint: Endpoint) -> Wish:
        """Another mind about what is on its way, or about what was."""
        running = [each for each in endpoint.operations if each.outcome is Outcome.RUNNING]
        operation = self._chance.choice(running or list(endpoint.operations))
        ask = self._next("cancel")
        return Wish(f"cancel {operation.id}", lambda api: api.operations.cancel(ask, operation.id))

    def _next(self, verb: str) -> Ask:
        self._count += 1
        return Ask(self._caller, f"{verb}-{self._count}", f"{verb}-{self._count}")
