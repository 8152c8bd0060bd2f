"""What keeps one tenant's prompts apart from another's in an engine that both use."""

from __future__ import annotations

import hashlib
import hmac


def cache_salt(secret: bytes, tenant_id: str) -> str:
    """The salt of the tenant's prefixes in an engine's cache.

    The same for all requests of a tenant, so that its own prefixes are found again; nobody without the secret can tell
    it from the tenant's name, so nobody can learn by timing what another tenant has asked (reliability.md 3.12).
    """
    return hmac.new(secret, b"cache-salt|" + tenant_id.encode(), hashlib.sha256).hexdigest()
