"""Keys as the `keys` bucket tells them to whoever checks them."""

from __future__ import annotations

import logging

from libs.common.events.tables import KeyEntry
from libs.common.keys import Keyring
from libs.common.telemetry.logging import fields

log = logging.getLogger(__name__)


def learn_key(ring: Keyring, key_id: str, value: bytes | None) -> None:
    """Take one change of the `keys` bucket into the ring; a key that can't be read is no key."""
    try:
        ring.change(key_id, None if value is None else KeyEntry.model_validate_json(value))
    except ValueError:  # A ValidationError is one; so is a block of addresses that is none.
        ring.change(key_id, None)
        log.warning("key unreadable", extra=fields(key_id=key_id))
