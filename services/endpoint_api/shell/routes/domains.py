"""Routes on domains."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field

from libs.common.events.command import STRICT
from services.endpoint_api.shell.routes.asking import Asking, Verbs, Who
from services.endpoint_api.shell.verbs.domains import DomainView

router: Final = APIRouter(tags=["domains"])


class VerifyDomainBody(BaseModel):
    """POST /v1/domains."""

    model_config = STRICT

    domain: str = Field(max_length=253, description="Such as example.com; its zone has to have the proof by now.")


class DomainList(BaseModel):
    """The tenant's verified domains."""

    model_config = ConfigDict(frozen=True)

    items: tuple[DomainView, ...]


@router.post("/domains")
def verify_domain(ask: Asking, verbs: Verbs, body: VerifyDomainBody) -> DomainView:
    """Look for the proof that a domain is the tenant's; the refusal says what it is."""
    return verbs.domains.verify(ask, body.domain)


@router.get("/domains")
def list_domains(who: Who, verbs: Verbs) -> DomainList:
    """The domains that the tenant has verified."""
    return DomainList(items=verbs.domains.list(who))


@router.get("/domains/{domain}")
def get_domain(who: Who, verbs: Verbs, domain: str) -> DomainView:
    """What proves a domain, and whether that was seen."""
    return verbs.domains.get(who, domain)


@router.delete("/domains/{domain}", status_code=204)
def release_domain(ask: Asking, verbs: Verbs, domain: str) -> None:
    """Give a domain up; not while endpoints have host names below it."""
    verbs.domains.release(ask, domain)
