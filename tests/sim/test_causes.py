"""Ten and more injected causes of waiting, through all six services on the twin: exact reason, who acts, what helps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import pytest

from libs.common.events.endpoint import EndpointSpec, Scaling
from libs.common.events.event import Owner
from libs.twin import kinds
from libs.twin.objects import Json
from services.endpoint_api.core.caller import Ask
from services.endpoint_api.core.outlook import CauseView
from tests.sim.customers import CALLER
from tests.sim.faults import Faults
from tests.sim.hosts import ApiHost
from tests.sim.world import Simulation

ROUNDS_MAX: Final = 100
ROUND_MS: Final = 500
PROJECT: Final = "mr-acme-default"
OURS: Final = {
    "app.kubernetes.io/managed-by": "millrace",
    "millrace.dev/tenant": "acme",
    "millrace.dev/project": "default",
}

Injection = Callable[[Simulation], None]


def faulty(**faults: object) -> Injection:
    return lambda sim: sim.twin.set_faults(faults)


def forget(kind: kinds.Kind, name: str) -> Injection:
    return lambda sim: sim.twin.store.remove(kind, sim.twin.store.get(kind, "", name))


def a_project(labels: dict[str, str], quotas: dict[str, str]) -> Injection:
    body: Json = {"metadata": {"name": PROJECT, "labels": labels}, "spec": {"quotas": {"project": quotas}}}

    def inject(sim: Simulation) -> None:
        sim.twin._rules.default(kinds.PROJECTS, body)
        sim.twin.store.create(kinds.PROJECTS, body, sim.clock.now_ms())

    return inject


def expire_the_key(sim: Simulation) -> None:
    sim.twin._entitlements.accepted.clear()


CAUSES: Final[dict[str, tuple[Injection, tuple[str, str, str], str]]] = {
    # What is injected: code, reason, who must act; and the first offer.
    "no node is free": (faulty(no_capacity=True), ("no_capacity", "NoCapacity", "operator"), "create_anew"),
    "the project's quota is full": (
        a_project(OURS, {"virtualclusterinstances": "0"}), ("quota", "QuotaExceeded", "you"), "free_quota",
    ),
    "no node can be provided": (faulty(failing_claims=1000), ("node", "NodeFailed", "operator"), "create_anew"),
    "the Platform is away": (
        faulty(unavailable_calls=10**6), ("platform", "PlatformUnavailable", "capacity-manager"), "wait",
    ),
    "our key has expired": (expire_the_key, ("platform", "PlatformUnauthorized", "operator"), "wait"),
    "the Platform is flooded": (
        faulty(throttled_calls=10**6), ("platform", "PlatformThrottled", "capacity-manager"), "wait",
    ),
    "a login page answers": (faulty(answers="html"), ("platform", "PlatformGarbled", "capacity-manager"), "wait"),
    "answers are cut in half": (faulty(answers="half"), ("platform", "PlatformGarbled", "capacity-manager"), "wait"),
    "the licence has run out": (
        faulty(unlicensed=["vcp-distro-private-nodes"]), ("cluster", "LicenceMissing", "operator"), "create_anew",
    ),
    "the cluster template is gone": (
        forget(kinds.TEMPLATES, "inference-l40s"), ("template", "TemplateUnknown", "operator"), "create_anew",
    ),
    "somebody else has our project's name": (
        a_project({"team": "them"}, {}), ("cluster", "NameTaken", "operator"), "create_anew",
    ),
    "the model is not what its digest says": (
        faulty(digest_mismatch=True), ("model_damaged", "DigestMismatch", "operator"), "change_spec",
    ),
}  # fmt: skip


@pytest.mark.parametrize("cause", CAUSES)
def test_a_cause_of_waiting_is_told_by_its_code_with_an_offer(cause: str) -> None:
    inject, expected, offer = CAUSES[cause]
    sim = Simulation(0)
    sim.faults = Faults.none()
    sim.faults_drawn = Faults.none()
    inject(sim)

    found = first_cause_of(sim, expected[1])

    assert (found.code, found.reason, found.waiting_on) == expected
    assert found.message
    assert found.offers[0].action == offer, found.offers
    assert found.offers[0].message


def first_cause_of(sim: Simulation, reason: str) -> CauseView:
    """Have an endpoint made, and wait until it says this reason. What it said instead is told if it never does."""
    host = sim.hosts[Owner.ENDPOINT_API]
    assert isinstance(host, ApiHost)
    spec = EndpointSpec(model="millrace/ngram-1", tier="l40s-dedicated", region="eu-1", scaling=Scaling(min=1, max=2))
    host.api.endpoints.create(Ask(CALLER, "chat", "create-chat"), name="chat", spec=spec)
    said: dict[str, None] = {}
    for _ in range(ROUNDS_MAX):
        step(sim)
        for each in host.api.endpoints.get(CALLER, "chat").status.causes:
            said[each.reason] = None
            if each.reason == reason:
                return each
    raise AssertionError(f"never said {reason}, but {list(said)}")


def step(sim: Simulation) -> None:
    """Everybody once, as when a simulation heals; nobody mends what fails."""
    sim.clock.advance(ROUND_MS)
    sim.twin.advance()
    for host in sim.hosts.values():
        for consumer in host.consumers:
            for entry in sim.broker.due(consumer):
                sim.broker.deliver(consumer, entry)
        host.tick()
        host.reconcile()
        host.relay()
