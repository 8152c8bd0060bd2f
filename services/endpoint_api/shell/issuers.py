"""Reads which OIDC issuers are believed, and refuses a malformed file with one clear line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from libs.common.errors import Invalid
from services.endpoint_api.core.identity import ALGORITHMS, ISSUER_NAME, Issuer

Words = Annotated[str, Field(min_length=1, max_length=255)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class _IssuerEntry(_Strict):
    name: Annotated[str, Field(pattern=f"^{ISSUER_NAME.pattern}$")]
    issuer: Annotated[str, Field(pattern=r"^https?://[^\s?#]+$")]
    audiences: tuple[Words, ...] = Field(min_length=1)
    algorithms: tuple[Literal["RS256", "ES256", "EdDSA"], ...] = Field(default=ALGORITHMS, min_length=1)
    trusts_email: bool = True
    operator_claim: str = ""
    operator_values: tuple[Words, ...] = ()
    operator_subjects: tuple[Words, ...] = ()


class _IssuerFile(_Strict):
    version: Literal[1]
    issuers: tuple[_IssuerEntry, ...] = Field(min_length=1, max_length=8)


def read_issuers(path: Path | None) -> tuple[Issuer, ...]:
    """The issuers in ``path`` (YAML or JSON); none without a path. Raises Invalid: one line."""
    if path is None:
        return ()
    try:
        file = _IssuerFile.model_validate(yaml.safe_load(path.read_bytes()))
    except OSError as missing:
        raise Invalid(f"issuers {path}: {missing.strerror}; set MILLRACE_OIDC_FILE") from missing
    except yaml.YAMLError as malformed:
        raise Invalid(f"issuers {path}: {' '.join(str(malformed).split())}") from None
    except ValidationError as wrong:
        details = wrong.errors(include_input=False, include_url=False)
        told = "; ".join(f"{'.'.join(map(str, each['loc'])) or 'the file'}: {each['msg']}" for each in details)
        raise Invalid(f"issuers {path}: {told}") from None
    for what in ("name", "issuer"):
        if len({getattr(each, what) for each in file.issuers}) < len(file.issuers):
            raise Invalid(f"issuers {path}: an {what} is there twice")
    return tuple(Issuer(**each.model_dump()) for each in file.issuers)
