"""What is looked at and heard of one runtime, wherever its deployer runs: on the twin or on a real Kubernetes."""

from __future__ import annotations

from collections.abc import Sequence

from libs.common.bus.port import Message
from libs.common.events.envelope import Envelope, from_wire
from libs.common.ids import EndpointId
from libs.common.service import Service
from services.runtime_deployer.core.lifecycle import Stage, stage_of
from services.runtime_deployer.core.state import Runtime


class OneRuntime:
    """A deployer's service with the one endpoint that it cares for, and everything that it told, once."""

    __slots__ = ()

    service: Service
    told: list[Envelope]
    endpoint: EndpointId

    @property
    def runtime(self) -> Runtime:
        """Its record."""
        state = self.service.runners[0].state(self.endpoint)
        assert isinstance(state, Runtime)
        return state

    @property
    def stage(self) -> Stage:
        """Where it stands."""
        return stage_of(self.runtime)

    @property
    def kinds(self) -> list[str]:
        """What was told, in order."""
        return [each.data.kind for each in self.told]

    def _publish(self, messages: Sequence[Message]) -> int:
        known = {each.id for each in self.told}
        heard = [from_wire(each.headers, each.body) for each in messages]
        self.told += [each for each in heard if each.id not in known]
        return len(messages)
