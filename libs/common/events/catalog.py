"""Every event that crosses a service boundary, by type. What is not in here is not part of the contract."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType, ModuleType
from typing import Final

from libs.common.events import audit, caches, capacity, command, endpoint, route, runtime, scale, tenant, usage, webhook
from libs.common.events.event import Command, Event, Internal, Owner

MODULES: Final[tuple[ModuleType, ...]] = (
    endpoint,
    command,
    tenant,
    audit,
    capacity,
    runtime,
    caches,
    route,
    usage,
    scale,
    webhook,
)


def _collect() -> Mapping[str, type[Event]]:
    found: dict[str, type[Event]] = {}
    for module in MODULES:
        for each in vars(module).values():
            if not (isinstance(each, type) and issubclass(each, Event)) or each in (Event, Internal, Command):
                continue
            name = f"{each.kind}.v{each.version}"
            assert found.get(name, each) is each, f"two events are called {name}"
            found[name] = each
    return MappingProxyType(dict(sorted(found.items())))


EVENTS: Final = _collect()


def told_by(owner: Owner) -> tuple[type[Event], ...]:
    """The events that ``owner`` alone may tell."""
    return tuple(each for each in EVENTS.values() if each.owner is owner)


def heard_by(consumer: Owner) -> tuple[type[Event], ...]:
    """The events that are delivered to ``consumer``."""
    return tuple(each for each in EVENTS.values() if consumer in each.consumers)
