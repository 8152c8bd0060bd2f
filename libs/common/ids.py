"""Identifiers: each kind is a type, and every id that must repeat after a crash is computed, not drawn.

All ids are lower-case letters, digits and dashes, so that they serve as Kubernetes names and as NATS subject tokens.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
import uuid
import zlib
from typing import Final, NewType, Protocol

TenantId = NewType("TenantId", str)
ProjectId = NewType("ProjectId", str)
EndpointId = NewType("EndpointId", str)
KeyId = NewType("KeyId", str)
OperationId = NewType("OperationId", str)
EventId = NewType("EventId", str)

NAMESPACE: Final = uuid.UUID("5f8a1c0e-9d0b-5b0f-8a55-6d696c6c7261")  # Ours alone; "millra" in its tail.
NAMESPACE_BYTES: Final = NAMESPACE.bytes
VARIANTS: Final = "89ab"  # RFC 9562: two bits that say how the rest is to be read, before two of the hash.
PARTITIONS: Final = 16  # Subject tokens p00..p15: enough for parallel ordered consumers, few enough to list.


class Entropy(Protocol):
    """Where unguessable bytes come from."""

    def token_bytes(self, count: int) -> bytes:
        """``count`` random bytes."""


class SystemEntropy:
    """The operating system's generator."""

    def token_bytes(self, count: int) -> bytes:
        """``count`` random bytes."""
        return secrets.token_bytes(count)


def event_id(cause: str, service: str, index: int) -> EventId:
    """The id of the ``index``-th event that ``service`` tells because of ``cause``: the same again after a crash."""
    name = f"{cause}|{service}|{index}".encode()
    # As `uuid.uuid5` makes it, without its objects: a third of the time, and each event takes several.
    digest = hashlib.sha1(NAMESPACE_BYTES + name, usedforsecurity=False).hexdigest()
    variant = VARIANTS[int(digest[16], 16) % 4]
    return EventId(f"{digest[:8]}-{digest[8:12]}-5{digest[13:16]}-{variant}{digest[17:20]}-{digest[20:32]}")


def short_id(prefix: str, *parts: str) -> str:
    """``prefix-`` and 10 characters computed from ``parts`` (50 bits; a clash is caught by the store's key)."""
    digest = hashlib.sha256("|".join(parts).encode()).digest()
    return f"{prefix}-{base64.b32encode(digest)[:10].decode().lower()}"


def partition(key: str) -> str:
    """The subject token ``p00``..``p15`` of a key."""
    return f"p{zlib.crc32(key.encode()) % PARTITIONS:02d}"
