"""Request bodies: strict, so that a misspelt field or a number in quotes is refused rather than ignored."""

from __future__ import annotations

from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from libs.common.events.endpoint import EndpointSpec, Scaling

STRICT: Final = ConfigDict(frozen=True, extra="forbid", strict=True, hide_input_in_errors=True)


class ScalingBody(Scaling):
    """How many replicas may run; left out, one."""

    model_config = STRICT


class SpecBody(EndpointSpec):
    """What is asked for."""

    model_config = STRICT

    scaling: ScalingBody = ScalingBody()

    def spec(self) -> EndpointSpec:
        """The same as the contract's own record."""
        return EndpointSpec.model_validate(self.model_dump())


class CreateEndpointBody(BaseModel):
    """POST /v1/endpoints."""

    model_config = STRICT

    name: str = Field(description="1 to 40 of a-z, 0-9 and '-'; unique in the project; clients send it as `model`.")
    spec: SpecBody


class CreateKeyBody(BaseModel):
    """POST /v1/keys."""

    model_config = STRICT

    name: str = Field(description="1 to 40 of a-z, 0-9 and '-', for people to tell keys apart.")
    scopes: list[str] = Field(description="One or more of inference, read, manage.", max_length=8)
    expires_in_s: int | None = Field(default=None, description="Seconds until it is refused; left out: never.")
    models: list[str] = Field(default=[], max_length=64, description="Names of the only endpoints it may use.")
    allowed_ips: list[str] = Field(default=[], max_length=64, description="CIDR blocks it may be used from.")
    test: bool = Field(default=False, description="Begins with mr_test_, to be told apart; it may do the same.")


class RotateKeyBody(BaseModel):
    """POST /v1/keys/{id}/rotate."""

    model_config = STRICT

    overlap_s: int = Field(default=24 * 3600, ge=0, le=30 * 24 * 3600, description="How much longer the old one works.")
