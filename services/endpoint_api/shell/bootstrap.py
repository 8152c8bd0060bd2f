"""The first keys of a new install, and whose they are: read from a file at start, recorded once."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from libs.common.errors import Invalid
from services.endpoint_api.shell.api import Api


class _Bootstrap(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    tenant_id: str
    project_id: str
    key: str
    scopes: tuple[str, ...]
    operator_key: str | None = None


def record_bootstrap(api: Api, path: Path) -> None:
    """Record the keys in ``path`` and make their tenant and project; starting again changes nothing.

    Raises Invalid: one line, without the keys.
    """
    try:
        given = _Bootstrap.model_validate_json(path.read_bytes())
        api.keys.record(
            given.key, tenant_id=given.tenant_id, project_id=given.project_id, name="bootstrap", scopes=given.scopes
        )
        api.tenants.adopt_holders(api.keys.homes())
        api.tenants.adopt(given.tenant_id, given.project_id)
        if given.operator_key is not None:
            api.keys.record_operator(given.operator_key)
    except OSError as missing:
        raise Invalid(f"bootstrap file {path}: {missing.strerror}; set MILLRACE_BOOTSTRAP_FILE") from missing
    except ValidationError as wrong:
        names = ", ".join(".".join(map(str, each["loc"])) or "the file" for each in wrong.errors(include_input=False))
        raise Invalid(f"bootstrap file {path}: wrong or missing: {names}") from None
    except Invalid as wrong:
        raise Invalid(f"bootstrap file {path}: {getattr(wrong, 'field', 'key')} {wrong}") from wrong
