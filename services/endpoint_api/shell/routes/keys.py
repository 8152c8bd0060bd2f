"""Routes on API keys."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict

from services.endpoint_api.core.status import KeyView
from services.endpoint_api.shell.bodies import CreateKeyBody
from services.endpoint_api.shell.routes.asking import Asking, Verbs, Who, committed

router: Final = APIRouter(tags=["keys"])


class KeyList(BaseModel):
    """All keys of the project."""

    model_config = ConfigDict(frozen=True)

    items: tuple[KeyView, ...]


class NewKeyView(KeyView):
    """A new key. `key` is the secret: shown this once."""

    key: str


@router.post("/keys", status_code=201)
def create_key(ask: Asking, verbs: Verbs, request: Request, response: Response, body: CreateKeyBody) -> NewKeyView:
    """Make a key; the answer is the only place that ever shows it."""
    made = verbs.keys.create(ask, name=body.name, scopes=body.scopes, expires_in_s=body.expires_in_s)
    committed(request)
    response.headers["cache-control"] = "no-store"
    response.headers["location"] = f"/v1/keys/{made.key.id}"
    return NewKeyView(**made.key.model_dump(), key=made.plaintext)


@router.get("/keys")
def list_keys(who: Who, verbs: Verbs) -> KeyList:
    """All keys of the project, without their secrets."""
    return KeyList(items=verbs.keys.list(who))


@router.delete("/keys/{key_id}")
def revoke_key(ask: Asking, verbs: Verbs, request: Request, key_id: str) -> KeyView:
    """Refuse a key from now on."""
    revoked = verbs.keys.revoke(ask, key_id)
    committed(request)
    return revoked
