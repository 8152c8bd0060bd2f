"""Values of the key-value buckets `keys` and `routes`: what a router, or a new one, serves from."""

from __future__ import annotations

from pydantic import Field

from libs.common.events.event import Contract
from libs.common.events.runtime import Replica


class KeyEntry(Contract):
    """An API key as those who check it know it: never the key, only its hash. Bucket key: `key_id`."""

    key_id: str
    sha256: str = Field(description="Hex digest, see libs.common.keys.digest.")
    tenant_id: str
    project_id: str
    scopes: tuple[str, ...] = Field(description="inference, read, manage.")
    expires_at_ms: int | None = None


class RouteEntry(Contract):
    """An endpoint as the data plane serves it; clients name it by `name` in `model`. Bucket key: `endpoint_id`."""

    endpoint_id: str
    tenant_id: str
    project_id: str
    name: str
    generation: int
    model: str
    tier: str
    region: str
    replicas: tuple[Replica, ...]
    published_at_ms: int
