"""Request bodies: strict, so that a misspelt field or a number in quotes is refused rather than ignored."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, Field, JsonValue

from libs.common.events.command import DRAIN_MAX_S, STRICT, SpecBody
from libs.common.events.endpoint import Limits
from services.endpoint_api.core.keys import Bounds

COUNT_MAX: Final = 2**53 - 1  # Exact in every JSON reader.


class CreateEndpointBody(BaseModel):
    """POST /v1/endpoints."""

    model_config = STRICT

    name: str = Field(description="1 to 40 of a-z, 0-9 and '-'; unique in the project; clients send it as `model`.")
    spec: SpecBody


class UpdateEndpointBody(BaseModel):
    """PATCH /v1/endpoints/{ref}."""

    model_config = STRICT

    spec: dict[str, JsonValue] = Field(description="RFC 7396 merge patch of the spec.", max_length=32)


class ScaleEndpointBody(BaseModel):
    """POST /v1/endpoints/{ref}/scale."""

    model_config = STRICT

    scaling: dict[str, JsonValue] = Field(description="RFC 7396 merge patch of `spec.scaling`.", max_length=8)


class PauseEndpointBody(BaseModel):
    """POST /v1/endpoints/{ref}/pause."""

    model_config = STRICT

    drain_deadline_s: int | None = Field(
        default=None, ge=0, le=DRAIN_MAX_S, description="Seconds that live streams may still run; left out: 120."
    )


class DrainEndpointBody(BaseModel):
    """POST /v1/endpoints/{ref}/drain."""

    model_config = STRICT

    drain_deadline_s: int = Field(ge=0, le=DRAIN_MAX_S, description="Seconds that live streams may still run.")


class KeyBudgetBody(BaseModel):
    """PUT /v1/keys/{id}/budget."""

    model_config = STRICT

    tokens_per_month: int | None = Field(default=None, ge=0, le=COUNT_MAX, description="A budget; never passed.")
    money_per_month_nano: int | None = Field(
        default=None, ge=0, le=COUNT_MAX, description="A budget for tokens, in billionths of the price book's currency."
    )


class KeyLimitsBody(Limits):
    """What a key takes at most, within the limits of its endpoints, project and tenant."""

    model_config = STRICT


class CreateKeyBody(KeyBudgetBody):
    """POST /v1/keys."""

    name: str = Field(description="1 to 40 of a-z, 0-9 and '-', for people to tell keys apart.")
    scopes: list[str] = Field(description="One or more of inference, read, manage.", max_length=8)
    expires_in_s: int | None = Field(default=None, description="Seconds until it is refused; left out: never.")
    models: list[str] = Field(default=[], max_length=64, description="Names of the only endpoints it may use.")
    allowed_ips: list[str] = Field(default=[], max_length=64, description="CIDR blocks it may be used from.")
    limits: KeyLimitsBody | None = Field(default=None, description="Of a minute and at once, of this key alone.")
    test: bool = Field(default=False, description="Begins with mr_test_, to be told apart; it may do the same.")

    def bounds(self) -> Bounds:
        """What it may do less than its scopes say."""
        return Bounds(
            models=tuple(self.models),
            allowed_ips=tuple(self.allowed_ips),
            tokens_per_month=self.tokens_per_month,
            money_per_month_nano=self.money_per_month_nano,
            limits=None if self.limits is None else Limits(**self.limits.model_dump()),
        )


class RotateKeyBody(BaseModel):
    """POST /v1/keys/{id}/rotate."""

    model_config = STRICT

    overlap_s: int = Field(default=24 * 3600, ge=0, le=30 * 24 * 3600, description="How much longer the old one works.")
