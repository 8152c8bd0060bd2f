"""Signatures of content: Ed25519, which anybody with the public key can check, or HMAC-SHA256 with a shared secret."""

from __future__ import annotations

import hashlib
import hmac
from pathlib import Path
from typing import Final, Protocol

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from libs.common.errors import Invalid

SECRET_BYTES_MIN: Final = 32


class Signer(Protocol):
    """Signs bytes."""

    def sign(self, content: bytes) -> bytes:
        """The signature."""


class Checker(Protocol):
    """Checks signatures."""

    def is_good(self, content: bytes, signature: bytes) -> bool:
        """Whether the signature is one of these bytes."""


class HmacSecret:
    """HMAC-SHA256 both ways."""

    def __init__(self, secret: bytes) -> None:
        if len(secret) < SECRET_BYTES_MIN:
            raise Invalid(f"an HMAC secret has {SECRET_BYTES_MIN} bytes or more")
        self._secret = secret

    def sign(self, content: bytes) -> bytes:
        """The signature."""
        return hmac.new(self._secret, content, hashlib.sha256).digest()

    def is_good(self, content: bytes, signature: bytes) -> bool:
        """Whether the signature is one of these bytes."""
        return hmac.compare_digest(self.sign(content), signature)


class Ed25519Signer:
    """Signs with a private key in PEM (PKCS #8)."""

    def __init__(self, pem: bytes) -> None:
        try:
            key = load_pem_private_key(pem, password=None)
        except (ValueError, TypeError):
            raise Invalid("the signing key is not a PEM private key without a password") from None
        if not isinstance(key, Ed25519PrivateKey):
            raise Invalid("the signing key is not Ed25519")
        self._key = key

    def sign(self, content: bytes) -> bytes:
        """The signature."""
        return self._key.sign(content)

    def public_pem(self) -> bytes:
        """What a checker of these signatures needs."""
        return self._key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


class Ed25519Checker:
    """Checks with the public key in PEM. Raises Invalid for anything else."""

    def __init__(self, pem: bytes) -> None:
        try:
            key = load_pem_public_key(pem)
        except ValueError:
            raise Invalid("the public key is not in PEM") from None
        if not isinstance(key, Ed25519PublicKey):
            raise Invalid("the public key is not Ed25519")
        self._key = key

    def is_good(self, content: bytes, signature: bytes) -> bool:
        """Whether the signature is one of these bytes."""
        try:
            self._key.verify(signature, content)
        except InvalidSignature:
            return False
        return True


def new_signing_key() -> bytes:
    """A private key in PEM, as ``openssl genpkey -algorithm ed25519`` makes one."""
    return Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def signer_from(path: Path) -> Signer:
    """The signer whose key is in this file: a PEM is Ed25519, anything else an HMAC secret."""
    content = path.read_bytes().strip()
    return Ed25519Signer(content) if content.startswith(b"-----BEGIN") else HmacSecret(content)
