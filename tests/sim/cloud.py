"""The simulated cloud of a run: the twin, engines of which some are no good, and what DNS says."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from libs.twin.engines_port import Launch
from libs.twin.fake_engines import FakeEngines
from libs.twin.options import TwinOptions
from libs.twin.world import World as Twin
from services.endpoint_api.core.domains import proof_of, record_of

if TYPE_CHECKING:
    from tests.sim.world import Simulation

ACCESS_KEY: Final = "twin-access-key"
ODD_MODEL: Final = "millrace/ngram-1-large"  # In some seeds it never loads.
DOMAIN: Final = "acme.example"
TIME_SCALE: Final = 0.005  # An endpoint comes up within a few tens of steps.


def twin_of(simulation: Simulation) -> Twin:
    """The simulated cloud of a run."""
    options = TwinOptions(access_keys=(ACCESS_KEY,), time_scale=TIME_SCALE)
    return Twin(simulation.clock, options, Engines(simulation))


class Engines(FakeEngines):
    """Engines of which those of one model may end as soon as they begin, for as long as the seed lasts."""

    def __init__(self, simulation: Simulation) -> None:
        super().__init__()
        self._sim = simulation

    def start(self, launch: Launch, now_ms: int) -> None:
        """Start, if it is a good one."""
        is_odd = any(ODD_MODEL in word for word in (*launch.command, *launch.args))
        self.exit_on_start = 1 if is_odd and self._sim.faults_drawn.model_broken else None
        super().start(launch, now_ms)


class Zones:
    """What DNS says: one domain is the customers', nobody else proved any."""

    def texts(self, name: str) -> tuple[str, ...]:
        """The proof, where it is looked for."""
        return (proof_of(DOMAIN, "acme"),) if name == record_of(DOMAIN) else ()
