"""Routes on API keys."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter, Response
from pydantic import BaseModel, ConfigDict

from services.endpoint_api.core.status import KeyView
from services.endpoint_api.shell.bodies import CreateKeyBody, KeyBudgetBody, RotateKeyBody
from services.endpoint_api.shell.routes.asking import Asking, Verbs, Who

router: Final = APIRouter(tags=["keys"])


class KeyList(BaseModel):
    """All keys of the project."""

    model_config = ConfigDict(frozen=True)

    items: tuple[KeyView, ...]


class NewKeyView(KeyView):
    """A new key. `key` is the secret: shown this once."""

    key: str


@router.post("/keys", status_code=201)
def create_key(ask: Asking, verbs: Verbs, response: Response, body: CreateKeyBody) -> NewKeyView:
    """Make a key; the answer is the only place that ever shows it."""
    made = verbs.keys.create(
        ask,
        name=body.name,
        scopes=body.scopes,
        expires_in_s=body.expires_in_s,
        bounds=body.bounds(),
        is_test=body.test,
    )
    response.headers["cache-control"] = "no-store"
    response.headers["location"] = f"/v1/keys/{made.key.id}"
    return NewKeyView(**made.key.model_dump(), key=made.plaintext)


@router.get("/keys")
def list_keys(who: Who, verbs: Verbs, name: str = "", revoked: bool | None = None) -> KeyList:
    """The keys of the project, without their secrets; by name, or only the revoked or the others."""
    return KeyList(items=verbs.keys.list(who, name=name, revoked=revoked))


@router.get("/keys/{key_id}")
def get_key(who: Who, verbs: Verbs, key_id: str) -> KeyView:
    """One key, without its secret."""
    return verbs.keys.get(who, key_id)


@router.post("/keys/{key_id}/rotate", status_code=201)
def rotate_key(ask: Asking, verbs: Verbs, response: Response, key_id: str, body: RotateKeyBody) -> NewKeyView:
    """Make a successor with the same grants; the old key works `overlap_s` longer. Shows the new secret once."""
    made = verbs.keys.rotate(ask, key_id, overlap_s=body.overlap_s)
    response.headers["cache-control"] = "no-store"
    response.headers["location"] = f"/v1/keys/{made.key.id}"
    return NewKeyView(**made.key.model_dump(), key=made.plaintext)


@router.put("/keys/{key_id}/budget")
def set_key_budget(ask: Asking, verbs: Verbs, key_id: str, body: KeyBudgetBody) -> KeyView:
    """Let a key and its successors spend so much a month from now on; what is left out is not limited."""
    return verbs.keys.set_budget(ask, key_id, tokens=body.tokens_per_month, nano=body.money_per_month_nano)


@router.delete("/keys/{key_id}")
def revoke_key(ask: Asking, verbs: Verbs, key_id: str) -> KeyView:
    """Refuse a key from now on."""
    return verbs.keys.revoke(ask, key_id)
