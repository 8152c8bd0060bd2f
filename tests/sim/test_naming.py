"""Host names in lives that have them, and the bugs that would be seen in those."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final

import pytest

from libs.common.decision import Decision, Give
from libs.common.events.envelope import Envelope
from libs.common.events.event import Owner
from libs.common.service import Service
from services.endpoint_api.core.domains import NAME
from tests.sim.bugs import Decide, decides, spoils
from tests.sim.cloud import DOMAIN
from tests.sim.customers import KINDS, NAMED
from tests.sim.hosts import ApiHost, Host
from tests.sim.looks import Violation
from tests.sim.naming import HOST_IS_ONES
from tests.sim.world import Simulation

LIVES: Final = [KINDS * number + NAMED for number in range(4)]  # At most; it ends with the first that saw the bug.


def _counts_no_host_names(decide: Decide) -> Decide:
    """Lets whoever asks have a host name."""

    def spoiled(state: Any, envelope: Envelope, now_ms: int) -> Decision[Any]:
        decision = decide(state, envelope, now_ms)
        return replace(decision, counters=tuple(each for each in decision.counters if not _is_name(each)))

    return spoiled


def _keeps_host_names(decide: Decide) -> Decide:
    """Gives none back that it took."""

    def spoiled(state: Any, envelope: Envelope, now_ms: int) -> Decision[Any]:
        decision = decide(state, envelope, now_ms)
        kept = (each for each in decision.counters if not (isinstance(each, Give) and _is_name(each)))
        return replace(decision, counters=tuple(kept))

    return spoiled


def _is_name(move: Any) -> bool:
    return str(move.counter).startswith(f"{NAME}/")


def _asks_nobody_for_domains(host: Host, service: Service) -> Service:
    """Takes a host name as whoever writes it down says."""
    assert isinstance(host, ApiHost)
    tenancy: Any = host.api.endpoints._tenancy
    tenancy.domain_of = lambda _caller, hostname: DOMAIN if hostname else ""
    return service


BUGS: Final[Mapping[str, Callable[[Simulation], None]]] = {
    "two may have one host name": decides(Owner.ENDPOINT_API, "endpoint", _counts_no_host_names),
    "a host name is never given back": decides(Owner.ENDPOINT_API, "endpoint", _keeps_host_names),
    "a host name is anybody's": spoils(Owner.ENDPOINT_API, _asks_nobody_for_domains),
}


@pytest.mark.parametrize("bug", BUGS)
def test_a_bug_of_host_names_is_seen(bug: str) -> None:
    broken = (promise for seed in LIVES if (promise := _broken_in(seed, bug)))

    assert next(broken, f"of {len(LIVES)} lives none saw that {bug}") == HOST_IS_ONES


def _broken_in(seed: int, bug: str) -> str:
    try:
        Simulation(seed, plant=BUGS[bug]).run()
    except Violation as violation:
        return violation.promise
    return ""
