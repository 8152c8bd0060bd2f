"""Who asks: an API key from the Authorization header, checked against our own records."""

from __future__ import annotations

from typing import Final

from libs.common.clock import Clock
from libs.common.ids import ProjectId, TenantId
from libs.common.keys import Keyring, key_id_of
from libs.common.runner import Runner
from services.endpoint_api.core.caller import Caller
from services.endpoint_api.core.keys import entry_of
from services.endpoint_api.core.refusal import Unauthorized
from services.endpoint_api.core.state import Key

SCHEME: Final = "bearer "
REFUSAL: Final = "send a key that is good as 'Authorization: Bearer <key>'"


class Authenticator:
    """Turns an Authorization header into a caller."""

    def __init__(self, keys: Runner[Key], clock: Clock) -> None:
        self._keys = keys
        self._clock = clock

    def caller(self, authorization: str) -> Caller:
        """The caller. Raises Unauthorized, in the same words whatever is wrong."""
        plaintext = authorization[len(SCHEME) :] if authorization[: len(SCHEME)].lower() == SCHEME else ""
        key_id = key_id_of(plaintext)
        key = self._keys.state(key_id) if key_id else None
        entry = entry_of(key) if key else None
        good = Keyring({entry.key_id: entry}).check(plaintext, now_ms=self._clock.now_ms()) if entry else None
        if good is None:
            raise Unauthorized(REFUSAL)
        actor, scopes = f"key:{good.key_id}", frozenset(good.scopes)
        return Caller(TenantId(good.tenant_id), ProjectId(good.project_id), actor, scopes)
