"""The key-value buckets: who writes them, who watches them, and the schema of their values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from libs.common.bus.streams import BUCKETS, CONFIRMED, COUNTS, HOSTS, KEYS, QUOTAS, ROUTES, SLICES
from libs.common.events.event import Contract, Owner
from libs.common.events.tables import (
    ConfirmedEntry,
    CountsEntry,
    HostEntry,
    KeyEntry,
    QuotaEntry,
    RouteEntry,
    SliceEntry,
)
from libs.common.schemas.event_files import DIALECT, as_json

HASH: Final = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"
TENANT: Final = {"tenant_id": "acme", "project_id": "default"}


@dataclass(frozen=True, slots=True)
class Table:
    """A bucket as its readers need to know it."""

    meaning: str
    owner: Owner
    readers: frozenset[Owner]
    key: str
    value: type[Contract]
    example: Mapping[str, object]


TABLES: Final[Mapping[str, Table]] = {
    KEYS: Table(
        meaning="Every API key that is good; one that is revoked is deleted here.",
        owner=Owner.ENDPOINT_API,
        readers=frozenset({Owner.ROUTER, Owner.METERING}),
        key="<key_id>",
        value=KeyEntry,
        example={"key_id": "k3yabcdefg", "sha256": HASH, **TENANT, "scopes": ("inference",)},
    ),
    ROUTES: Table(
        meaning="Every endpoint that is served, with its replicas; one that is withdrawn is deleted here.",
        owner=Owner.ROUTER,
        readers=frozenset({Owner.ROUTER}),
        key="<endpoint_id>",
        value=RouteEntry,
        example={
            "endpoint_id": "ep-7f3akq2xpd",
            **TENANT,
            "name": "chat",
            "generation": 1,
            "model": "millrace/ngram-1",
            "tier": "h100-dedicated",
            "region": "eu-1",
            "replicas": ({"name": "ep-7f3akq2xpd-5c9-x2v7q", "url": "http://127.64.3.9:8000"},),
            "published_at_ms": 1_800_000_000_000,
        },
    ),
    QUOTAS: Table(
        meaning="What a tenant, or a project of it, may send per minute; no entry is no limit.",
        owner=Owner.ENDPOINT_API,
        readers=frozenset({Owner.ROUTER, Owner.METERING}),
        key="<tenant_id>, or <tenant_id>.<project_id>",
        value=QuotaEntry,
        example={"tenant_id": "acme", "requests_per_minute": 600, "tokens_per_minute": 200_000},
    ),
    SLICES: Table(
        meaning="What a router process may spend of a budget of tokens: its part, taken off the budget before.",
        owner=Owner.METERING,
        readers=frozenset({Owner.ROUTER}),
        key="<instance>.<budget>, where a budget is <tenant_id> or <tenant_id>.<project_id>",
        value=SliceEntry,
        example={
            "budget": "acme.main",
            "period": "2027-01",
            "boot_id": "b-2f6c",
            "granted": 32_000,
            "left": 968_000,
        },
    ),
    HOSTS: Table(
        meaning="What each host of routers that serve together serves from, and what it still runs.",
        owner=Owner.ROUTER,
        readers=frozenset({Owner.ROUTER}),
        key="<instance>",
        value=HostEntry,
        example={
            "instance": "router-2",
            "boot_id": "b-2f6c",
            "at_ms": 1_800_000_000_000,
            "routes": {"ep-7f3akq2xpd": {"mark": 3_735_928_559, "lets_in": True}},
        },
    ),
    COUNTS: Table(
        meaning="What each of these hosts admitted within the last minute: it counts against the limits of all.",
        owner=Owner.ROUTER,
        readers=frozenset({Owner.ROUTER}),
        key="<instance>",
        value=CountsEntry,
        example={
            "instance": "router-2",
            "boot_id": "b-2f6c",
            "second": 81_402,
            "counts": {"quota/acme": ((81_400, 12, 5_210), (81_401, 9, 4_044))},
            "running": {"key/k3yabcdefg": 3},
        },
    ),
    CONFIRMED: Table(
        meaning="Requests of hosts without control half that the ledger has: they need report them no more.",
        owner=Owner.ROUTER,
        readers=frozenset({Owner.ROUTER}),
        key="<instance>.<n>, in a ring",
        value=ConfirmedEntry,
        example={"instance": "router-2", "request_ids": ("req-b2f6c-1a",)},
    ),
}


def bucket_schemas() -> dict[str, str]:
    """The schemas of all buckets, by their path below `schemas/`."""
    return {f"buckets/{name}/v1.json": as_json(value_schema(name)) for name in TABLES}


def bucket_examples() -> dict[str, str]:
    """The examples beside them."""
    return {
        f"buckets/{name}/v1.example.json": as_json(table.value.model_validate(table.example).model_dump(mode="json"))
        for name, table in TABLES.items()
    }


def value_schema(name: str) -> dict[str, Any]:
    """The schema of a bucket's values."""
    return {
        "$schema": DIALECT,
        "$id": f"schemas/buckets/{name}/v1.json",
        "x-bucket": name,
        "x-key": TABLES[name].key,
        **TABLES[name].value.model_json_schema(mode="validation"),
    }


def bucket_topics() -> list[dict[str, Any]]:
    """One entry for each bucket."""
    history = {each.name: each.history for each in BUCKETS}
    return [
        {
            "bucket": name,
            "meaning": table.meaning,
            "owner": str(table.owner),
            "consumers": sorted(map(str, table.readers)),
            "stream": f"KV_{name}",
            "subject": f"$KV.{name}.>",
            "key": table.key,
            "value": f"schemas/buckets/{name}/v1.json",
            "history": history[name],
            "retention_s": None,  # For ever, or until it is deleted.
        }
        for name, table in TABLES.items()
    ]


assert set(TABLES) == {each.name for each in BUCKETS}, "a bucket without a schema is no contract"
