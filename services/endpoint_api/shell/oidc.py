"""Sign-in by OIDC: checks access tokens (JWT) of the issuers an operator named. What can't be checked is refused.

Keys of an issuer are fetched when first needed, kept for an hour and, so that a rotation is survived, fetched anew when
a token names one that is not known; at most once in ten seconds: made-up tokens must not make us flood the issuer.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import httpx
import jwt

from libs.common.clock import Clock
from libs.common.errors import Unavailable
from libs.common.telemetry.logging import fields
from libs.common.units import HOUR_S, KIB, SECOND_MS
from services.endpoint_api.core.identity import Identity, Issuer, identity_of
from services.endpoint_api.core.refusal import Unauthorized

log = logging.getLogger(__name__)

TOKEN_MAX_BYTES: Final = 8 * KIB  # Headers end at 16 KiB; a token larger than this is not one of a person.
DOCUMENT_MAX_BYTES: Final = 256 * KIB
KEYS_MAX: Final = 64  # An issuer publishes two or three.
FETCH_S: Final = 3.0  # Until the issuer answers, and between any two parts of its answer.
DOCUMENT_S: Final = 6.0  # For the whole of a document.
KEEP_MS: Final = HOUR_S * SECOND_MS  # A key that the issuer withdrew is believed no longer than this.
REFETCH_MS: Final = 10 * SECOND_MS
LEEWAY_S: Final = 60  # Clocks of two honest machines differ by less.
REFUSAL: Final = "the token is not one that is good here: sign in again, with this API as its audience"
WELL_KNOWN: Final = "/.well-known/openid-configuration"

UNREADABLE: Final = (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError)

Fetch = Callable[[str], bytes]


class People(Protocol):
    """Who says who the bearer of a token is."""

    def identity(self, token: str) -> Identity:
        """Who signed in. Raises Unauthorized for a bad token, Unavailable if the issuer can't be asked."""


class NoPeople:
    """No issuer is believed: nobody signs in."""

    def identity(self, token: str) -> Identity:
        """Raises Unauthorized."""
        raise Unauthorized(REFUSAL)


@dataclass(slots=True)
class _Keys:
    """The keys of an issuer as last fetched."""

    by_id: dict[str, jwt.PyJWK] = field(default_factory=dict)
    fetched_ms: int | None = None
    tried_ms: int | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class Oidc:
    """Checks tokens of issuers; one instance for all threads."""

    def __init__(self, issuers: tuple[Issuer, ...], clock: Clock, fetch: Fetch | None = None) -> None:
        self._issuers = {each.issuer: each for each in issuers}
        self._keys = {each.issuer: _Keys() for each in issuers}
        self._clock = clock
        self._fetch = fetch or fetch_document

    def identity(self, token: str) -> Identity:
        """Who signed in. Raises Unauthorized in the same words whatever is wrong, Unavailable for a mute issuer."""
        if len(token) > TOKEN_MAX_BYTES:
            raise Unauthorized(REFUSAL)
        try:
            header = jwt.get_unverified_header(token)
            said = jwt.decode(token, options={"verify_signature": False})
            issuer = self._issuers.get(_text(said.get("iss")))
            if issuer is None or header.get("alg") not in issuer.algorithms or "crit" in header:
                raise Unauthorized(REFUSAL)
            key = self._key(issuer, _text(header.get("kid")))
            return identity_of(issuer, self._verified(token, key, issuer))
        except UNREADABLE:
            raise Unauthorized(REFUSAL) from None

    def _verified(self, token: str, key: jwt.PyJWK, issuer: Issuer) -> dict[str, Any]:
        claims: dict[str, Any] = jwt.decode(
            token,
            key,
            algorithms=list(issuer.algorithms),
            audience=list(issuer.audiences),
            issuer=issuer.issuer,
            options={
                "require": ["exp", "iss", "aud", "sub"],
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
            },
        )
        now_s = self._clock.now_ms() / SECOND_MS  # Our clock, not the library's: tests and the simulation have another.
        if not now_s < float(claims["exp"]) + LEEWAY_S or now_s < float(claims.get("nbf", 0)) - LEEWAY_S:
            raise Unauthorized(REFUSAL)
        return claims

    def _key(self, issuer: Issuer, key_id: str) -> jwt.PyJWK:
        keys = self._keys[issuer.issuer]
        if self._lacks(keys, key_id):
            with keys.lock:  # One fetches, who also lacks a key waits for what it brings, nobody else waits.
                rested = keys.tried_ms is None or self._clock.now_ms() - keys.tried_ms >= REFETCH_MS
                if rested and self._lacks(keys, key_id):
                    self._refresh(issuer, keys)
        if self._are_stale(keys):
            raise Unavailable(f"the keys of issuer {issuer.name} can't be had now", retry_after_s=REFETCH_MS / 1000)
        if key_id not in keys.by_id:
            raise Unauthorized(REFUSAL)
        return keys.by_id[key_id]

    def _lacks(self, keys: _Keys, key_id: str) -> bool:
        return key_id not in keys.by_id or self._are_stale(keys)

    def _are_stale(self, keys: _Keys) -> bool:
        return keys.fetched_ms is None or self._clock.now_ms() - keys.fetched_ms >= KEEP_MS

    def _refresh(self, issuer: Issuer, keys: _Keys) -> None:
        keys.tried_ms = self._clock.now_ms()
        try:
            document = _object(self._fetch(issuer.issuer.rstrip("/") + WELL_KNOWN))
            if document.get("issuer") != issuer.issuer:
                raise ValueError("the discovery document is of another issuer")
            found = _keys_of(_object(self._fetch(_text(document.get("jwks_uri")))), issuer)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError, RecursionError) as wrong:
            log.warning("issuer not read", extra=fields(reason=f"{issuer.name}: {type(wrong).__name__}: {wrong}"))
            return
        keys.by_id, keys.fetched_ms = found, keys.tried_ms


def fetch_document(url: str) -> bytes:
    """What is at ``url``: https (http only to this machine), no redirects, bounded in time and size."""
    parts = urlsplit(url)
    is_local = parts.hostname in ("127.0.0.1", "localhost", "::1")
    if parts.scheme != "https" and not (parts.scheme == "http" and is_local):
        raise ValueError("an issuer must be asked over https")
    body, deadline_s = b"", time.monotonic() + DOCUMENT_S
    with httpx.stream("GET", url, timeout=FETCH_S, follow_redirects=False) as answer:
        if answer.status_code != httpx.codes.OK:
            raise ValueError(f"the issuer answered {answer.status_code}")
        for part in answer.iter_bytes():
            body += part
            if len(body) > DOCUMENT_MAX_BYTES or time.monotonic() > deadline_s:
                raise ValueError("the issuer's document is too large or too slow")
    return body


def _keys_of(document: Mapping[str, object], issuer: Issuer) -> dict[str, jwt.PyJWK]:
    """The keys that may sign, by id; one that is for something else, or that we can't read, is passed over."""
    listed = document.get("keys")
    if not isinstance(listed, list) or not listed or len(listed) > KEYS_MAX:
        raise ValueError("the issuer's key set is no list of keys")
    found: dict[str, jwt.PyJWK] = {}
    for each in listed:
        if not isinstance(each, dict) or each.get("use", "sig") != "sig" or not isinstance(each.get("kid"), str):
            continue
        try:
            key = jwt.PyJWK(each)
        except jwt.PyJWTError:
            continue
        if key.algorithm_name in issuer.algorithms:
            found[each["kid"]] = key
    return found


def _object(text: bytes) -> dict[str, object]:
    document = json.loads(text)
    if not isinstance(document, dict):
        raise ValueError("the issuer's document is no object")
    return document


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
