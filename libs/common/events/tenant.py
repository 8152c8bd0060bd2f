"""Events and values of tenants: what a tenant may have, told by endpoint-api to whoever bills or shows it."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import Field

from libs.common.events.event import Contract

EVERY_OTHER = "*"


class Quota(Contract):
    """The most that a tenant, or a project of it, may have at once or use in a minute; left out, there is no limit."""

    endpoints: int | None = Field(default=None, ge=0, description="Endpoints that are not deleted.")
    replicas: int | None = Field(default=None, ge=0, description="Sum of scaling.max over endpoints that run.")
    gpus: Mapping[str, int] = Field(
        default_factory=dict,
        description="Node class -> GPUs of replicas of it; `*` is for each class that is not named.",
    )
    requests_per_minute: int | None = Field(default=None, ge=0)
    tokens_per_minute: int | None = Field(default=None, ge=0, description="Prompt and completion.")


class Quotas(Contract):
    """Both quotas that hold for a change, as they were when it was admitted."""

    tenant: Quota = Quota()
    project: Quota = Quota()
