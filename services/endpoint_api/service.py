"""Joins endpoint-api's cores to a store and a clock: the same for a process, the simulation and the tests."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from libs.common.events.catalog import heard_by
from libs.common.events.endpoint import Stage
from libs.common.events.envelope import Envelope
from libs.common.events.event import Owner
from libs.common.events.route import KeyUsed
from libs.common.events.usage import BudgetReached
from libs.common.ids import EndpointId, KeyId, TenantId
from libs.common.runner import Owned, Runner, its_subject
from libs.common.service import Service
from libs.common.store.port import Attention
from services.endpoint_api.core import decide, domains, eta, follower, keys, members, requests, tenants, webhooks
from services.endpoint_api.core.domains import Domain
from services.endpoint_api.core.eta import Durations
from services.endpoint_api.core.follower import Follower
from services.endpoint_api.core.members import Member, scope_of_member
from services.endpoint_api.core.requests import Request
from services.endpoint_api.core.state import (
    Endpoint,
    Key,
    label_of_endpoint,
    label_of_key,
    scope_of_endpoint,
    scope_of_key,
)
from services.endpoint_api.core.tenants import Tenant
from services.endpoint_api.core.webhooks import Webhook, scope_of_webhook
from services.endpoint_api.shell import metrics
from services.endpoint_api.shell.key_uses import KeyUses
from services.endpoint_api.shell.ports import Ports

ENDPOINTS: Final = Owned(
    kind="endpoint",
    state=Endpoint,
    empty=lambda key: Endpoint(EndpointId(key)),
    decide=metrics.timed(decide.decide),
    hears={each: its_subject for each in heard_by(Owner.ENDPOINT_API) if each not in (KeyUsed, BudgetReached)},
    scope=scope_of_endpoint,
    tenant=lambda endpoint: endpoint.tenant_id,
    project=lambda endpoint: endpoint.project_id,
    label=label_of_endpoint,
    # No reconciler follows them; being watched is how the gauges find those that live.
    attention=lambda endpoint: (
        Attention.WATCH if endpoint.is_requested and endpoint.stage is not Stage.DELETED else Attention.NONE
    ),
)

KEYS: Final = Owned(
    kind="key",
    state=Key,
    empty=lambda key: Key(KeyId(key)),
    decide=keys.decide,
    hears={},
    scope=scope_of_key,
    tenant=lambda key: key.tenant_id,
    project=lambda key: key.project_id,
    label=label_of_key,
)

TENANTS: Final = Owned(
    kind="tenant",
    state=Tenant,
    empty=lambda key: Tenant(TenantId(key)),
    decide=tenants.decide,
    hears={BudgetReached: its_subject},
    tenant=lambda tenant: tenant.id,
)

MEMBERS: Final = Owned(
    kind="member",
    state=Member,
    empty=Member,
    decide=members.decide,
    hears={},
    scope=scope_of_member,
    tenant=lambda member: member.tenant_id,
    project=lambda member: member.project_id,
)

DOMAINS: Final = Owned(
    kind="domain",
    state=Domain,
    empty=Domain,
    decide=domains.decide,
    hears={},
    scope=lambda domain: domain.tenant_id,
    tenant=lambda domain: domain.tenant_id,
)

WEBHOOKS: Final = Owned(
    kind="webhook",
    state=Webhook,
    empty=Webhook,
    decide=webhooks.decide,
    hears={},
    scope=scope_of_webhook,
    tenant=lambda webhook: webhook.tenant_id,
    project=lambda webhook: webhook.project_id,
    audited=Webhook.as_asked,
    attention=lambda webhook: Attention.WATCH if webhook.is_active else Attention.NONE,  # The dispatcher's.
)

REQUESTS: Final = Owned(kind="request", state=Request, empty=Request, decide=requests.decide, hears={})

DURATIONS: Final = Owned(kind="durations", state=Durations, empty=Durations, decide=eta.decide, hears={})

FOLLOWERS: Final = Owned(kind="follower", state=Follower, empty=Follower, decide=follower.decide, hears={})


@dataclass(frozen=True, slots=True)
class EndpointApi(Service):
    """A service that also hears which keys were used; each such event is of many records, so it is taken apart."""

    key_uses: KeyUses | None = None

    def handle(self, envelope: Envelope) -> None:
        """Apply an event. Safe to repeat."""
        if isinstance(envelope.data, KeyUsed):
            assert self.key_uses is not None
            self.key_uses.hear(envelope.data)
        else:
            Service.handle(self, envelope)


def build(ports: Ports) -> EndpointApi:
    """The service on ``ports``; `shell.api.Api` is its face to those who ask."""
    keys_runner = Runner(KEYS, store=ports.store, clock=ports.clock)
    return EndpointApi(
        Owner.ENDPOINT_API,
        ports.store,
        key_uses=KeyUses(keys_runner, ports.clock, ports.key_use),
        runners=(
            Runner(ENDPOINTS, store=ports.store, clock=ports.clock),
            keys_runner,
            Runner(TENANTS, store=ports.store, clock=ports.clock),
            Runner(MEMBERS, store=ports.store, clock=ports.clock),
            Runner(DOMAINS, store=ports.store, clock=ports.clock),
            Runner(WEBHOOKS, store=ports.store, clock=ports.clock),
            Runner(REQUESTS, store=ports.store, clock=ports.clock),
            Runner(DURATIONS, store=ports.store, clock=ports.clock),
            Runner(FOLLOWERS, store=ports.store, clock=ports.clock),
        ),
    )
