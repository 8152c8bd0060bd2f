"""Admission: who may ask, how things may be named, and when two requests are the same one."""

from __future__ import annotations

import hashlib
import re
from typing import Final

from libs.common.events.endpoint import EndpointSpec
from libs.common.ids import EndpointId, short_id
from libs.common.units import SECOND_MS
from services.endpoint_api.core.caller import KEY_SCOPES, Caller
from services.endpoint_api.core.commands import DRAIN_MS
from services.endpoint_api.core.refusal import FieldRefused

NAME_MAX: Final = 40  # A DNS label is 63; the rest is room for what adapters put around a name.
NAME_FORM: Final = re.compile(r"[a-z](?:[a-z0-9-]{0,38}[a-z0-9])?")
ENDPOINT_ID_FORM: Final = re.compile(r"ep-[a-z2-7]{10}")
MEMBER_ID_FORM: Final = re.compile(r"mb-[a-z2-7]{10}")
KEY_ID_FORM: Final = re.compile(r"[a-z2-7]{10}")
OPERATION_ID_FORM: Final = re.compile(r"op-([a-z2-7]{10})-[1-9][0-9]{0,8}")
REQUEST_KEY_FORM: Final = re.compile(r"[!-~]{1,255}")
REQUEST_KEY_MAX: Final = 255
DRAIN_MAX_S: Final = 3600  # Longer than any answer that we sell lasts; who wants more pauses later.
EXPIRY_MIN_S: Final = 60  # Shorter than a router's worst view of the keys bucket would be a key that never works.
EXPIRY_MAX_S: Final = 10 * 365 * 24 * 3600  # Ten years; for ever is said by leaving it out.


def check_name(name: str, *, field: str = "name") -> None:
    """Raises FieldRefused unless ``name`` is a DNS label of at most 40 that can't be taken for an id."""
    if NAME_FORM.fullmatch(name) is None:
        message = f"must be 1 to {NAME_MAX} of a-z, 0-9 and '-', begin with a letter and end with a letter or digit"
        raise FieldRefused(field, message)
    if name.startswith("ep-"):
        raise FieldRefused(field, "must not begin with 'ep-': that is how endpoint ids begin")


def request_key(*, idempotency_key: str | None, request_id: str) -> str:
    """What makes two requests the same one: the Idempotency-Key, or else the request id, never mistaken for a key.

    Raises FieldRefused for a key of the wrong form.
    """
    if idempotency_key is None:
        assert request_id, "nothing says which request it is: all like it would be the same one"
        return f"request {request_id}"
    if REQUEST_KEY_FORM.fullmatch(idempotency_key) is None:
        raise FieldRefused("Idempotency-Key", f"must be 1 to {REQUEST_KEY_MAX} printable ASCII characters, no spaces")
    return idempotency_key


def check_scopes(scopes: tuple[str, ...]) -> None:
    """Raises FieldRefused unless ``scopes`` names at least one scope, and each once."""
    known = ", ".join(KEY_SCOPES)
    if not scopes or set(scopes) - set(KEY_SCOPES) or len(set(scopes)) < len(scopes):
        raise FieldRefused("scopes", f"must name one or more of {known}, each once")


def drain_ms(drain_deadline_s: int | None) -> int:
    """The drain deadline in milliseconds; None is the usual one. Raises FieldRefused outside of 0 to an hour."""
    if drain_deadline_s is None:
        return DRAIN_MS
    if not 0 <= drain_deadline_s <= DRAIN_MAX_S:
        raise FieldRefused("drain_deadline_s", f"must be 0 to {DRAIN_MAX_S} seconds, or left out for the usual")
    return drain_deadline_s * SECOND_MS


def check_expiry(expires_in_s: int | None) -> None:
    """Raises FieldRefused unless a key's life has a sensible length."""
    if expires_in_s is not None and not EXPIRY_MIN_S <= expires_in_s <= EXPIRY_MAX_S:
        raise FieldRefused("expires_in_s", f"must be {EXPIRY_MIN_S} to {EXPIRY_MAX_S} seconds, or left out for no end")


def endpoint_id(caller: Caller, request_key: str) -> EndpointId:
    """The id of what a create asks for: the same caller and Idempotency-Key always mean the same endpoint."""
    return EndpointId(short_id("ep", caller.tenant_id, caller.project_id, request_key))


def request_digest(name: str, spec: EndpointSpec) -> str:
    """What a create asked for, as a hash: a second use of an Idempotency-Key must ask for the same."""
    return hashlib.sha256(f"{name}|{spec.model_dump_json()}".encode()).hexdigest()
