"""Values of buckets as they are told: one that nobody can read is said to be so, and changes nothing."""

from __future__ import annotations

import logging
from typing import TypeVar

from pydantic import ValidationError

from libs.common.events.event import Contract
from libs.common.telemetry.logging import fields

log = logging.getLogger(__name__)

Entry = TypeVar("Entry", bound=Contract)


def entry_of(kind: type[Entry], key: str, value: bytes, *, otherwise: str) -> Entry | None:
    """What the key was set to; None, and a warning that says ``otherwise``, if it is no such entry."""
    try:
        return kind.model_validate_json(value)
    except ValidationError:
        log.warning(otherwise, extra=fields(reason=key))
        return None
