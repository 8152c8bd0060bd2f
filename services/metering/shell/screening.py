"""The door of the ledger: whose endpoint is it, and is this a report at all? Good entries of a bad batch still land."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from pydantic import ValidationError

from libs.common.errors import Invalid, UnknownEvent
from libs.common.events.envelope import Envelope, from_wire, type_of
from libs.common.events.event import Event
from libs.common.events.route import RequestUsage, UsageReported
from libs.common.store.port import Store
from libs.common.telemetry.logging import fields
from services.metering.core.producer import Screened, batch_of
from services.metering.shell.audit import meter_of

log = logging.getLogger(__name__)

OWNERS_MAX: Final = 100_000  # Endpoints whose owner is remembered; some ten megabytes.
REPORTED: Final = type_of(UsageReported)


class Owners:
    """Whose endpoint it is, as endpoint-api said. It never changes hands, so what is known is read once."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[str, tuple[str, str]] = {}

    def foreign(self, requests: Iterable[RequestUsage]) -> tuple[str, ...]:
        """The requests that name another tenant or project than the endpoint's; not those of endpoints unheard of."""
        # Also of an endpoint that nobody was heard of yet the store is asked once for a batch, not for each request.
        asked: dict[str, tuple[str, str] | None] = {}
        found = []
        for each in requests:
            endpoint_id = each.endpoint_id
            if endpoint_id not in asked:
                asked[endpoint_id] = self._of(endpoint_id)
            owner = asked[endpoint_id]
            if owner is not None and owner != (each.tenant_id, each.project_id):
                found.append(each.request_id)
        return tuple(found)

    def screened(self, envelope: Envelope) -> Mapping[str, Event]:
        """The batch for its producer, with what the door says of it: the journal has it, so a replay decides alike."""
        batch, news = batch_of(envelope), envelope.data
        foreign = self.foreign(batch.requests)
        if foreign:
            seen = news if isinstance(news, Screened) else Screened(batch=batch)
            news = seen.model_copy(update={"foreign": foreign})
        return {envelope.subject: news}

    def _of(self, endpoint_id: str) -> tuple[str, str] | None:
        known = self._known.get(endpoint_id)
        if known is None:
            meter = meter_of(self._store, endpoint_id)
            if meter is None or meter.dimensions is None:
                return None
            if len(self._known) >= OWNERS_MAX:
                self._known.clear()
            known = self._known[endpoint_id] = (meter.dimensions.tenant_id, meter.dimensions.project_id)
        return known


def read(headers: Mapping[str, str], body: bytes) -> Envelope:
    """An event off the wire; of a batch with garbage in it what is good, and the garbage to be parked.

    Raises as `from_wire`.
    """
    try:
        return from_wire(headers, body)
    except UnknownEvent:
        raise
    except Invalid:
        salvaged = salvage(body) if headers.get("ce-type") == REPORTED else None
        if salvaged is None or not salvaged.garbage:  # Then something else is wrong with it.
            raise
    log.warning("garbage in a batch", extra=fields(reason=f"{len(salvaged.garbage)} of its requests are none"))
    return replace(from_wire(headers, to_body_of(salvaged)), data=salvaged)


def to_body_of(salvaged: Screened) -> bytes:
    """The batch without its garbage, as it would have been sent."""
    return salvaged.batch.model_dump_json().encode()


def salvage(body: bytes) -> Screened | None:
    """What is good in a malformed batch, with its garbage; None if it is no batch, whatever is in it."""
    try:
        found: Any = json.loads(body)
        requests = found["requests"]
        batch = UsageReported.model_validate({**found, "requests": ()})
    except (ValueError, TypeError, KeyError, RecursionError):
        return None
    if not isinstance(requests, list):
        return None
    good: list[RequestUsage] = []
    garbage: list[str] = []
    garbled: list[str] = []
    for each in requests:
        try:
            good.append(RequestUsage.model_validate(each))
        except ValidationError:
            garbage.append(json.dumps(each, sort_keys=True, separators=(",", ":")))
            if isinstance(each, dict) and isinstance(each.get("request_id"), str):
                garbled.append(each["request_id"])
    return Screened(
        batch=batch.model_copy(update={"requests": tuple(good)}), garbage=tuple(garbage), garbled=tuple(garbled)
    )
