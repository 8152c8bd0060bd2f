"""What every event is: a frozen record that knows its name, its version, its owner and who listens."""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from libs.common.events.facts import Fact


class Owner(StrEnum):
    """The six services, by the names they have on the wire."""

    ENDPOINT_API = "endpoint-api"
    CAPACITY_MANAGER = "capacity-manager"
    RUNTIME_DEPLOYER = "runtime-deployer"
    ROUTER = "router"
    METERING = "metering"
    AUTOSCALER = "autoscaler"


class Contract(BaseModel):
    """A record of the contract: frozen, and tolerant of fields that a newer version may have added.

    Error texts never carry the input, because input may be a customer's prompt or key.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", hide_input_in_errors=True)


class Event(Contract):
    """Something that happened, told by its one owner. Subclasses set the class variables; the docstring is the meaning.

    `kind` is the CloudEvents type without its version. `fact`, where set, is what the event says of an endpoint;
    with `holds` False it takes the fact back. `consumers` lists who hears it; nobody else is sent it.
    """

    kind: ClassVar[str]
    version: ClassVar[int] = 1
    owner: ClassVar[Owner]
    consumers: ClassVar[frozenset[Owner]] = frozenset()
    fact: ClassVar[Fact | None] = None
    holds: ClassVar[bool] = True


class Internal(Event):
    """What a service tells only itself (a command taken in, a wake-up, an observation): journalled, never published."""


class Command(Internal):
    """A change that somebody asked for: `actor` did, in the request `request_id`. Every one taken is in the audit."""

    actor: str = ""
    request_id: str = ""
