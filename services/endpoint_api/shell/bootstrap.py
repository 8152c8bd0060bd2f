"""The first key of a new install: read from a file at start, recorded once."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from libs.common.errors import Invalid
from services.endpoint_api.shell.verbs.keys import KeyVerbs


class _Bootstrap(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    tenant_id: str
    project_id: str
    key: str
    scopes: tuple[str, ...]


def record_bootstrap_key(verbs: KeyVerbs, path: Path) -> None:
    """Record the key in ``path``; starting again changes nothing. Raises Invalid: one line, without the key."""
    try:
        given = _Bootstrap.model_validate_json(path.read_bytes())
        verbs.record(
            given.key, tenant_id=given.tenant_id, project_id=given.project_id, name="bootstrap", scopes=given.scopes
        )
    except OSError as missing:
        raise Invalid(f"bootstrap file {path}: {missing.strerror}; set MILLRACE_BOOTSTRAP_FILE") from missing
    except ValidationError as wrong:
        names = ", ".join(".".join(map(str, each["loc"])) or "the file" for each in wrong.errors(include_input=False))
        raise Invalid(f"bootstrap file {path}: wrong or missing: {names}") from None
    except Invalid as wrong:
        raise Invalid(f"bootstrap file {path}: {getattr(wrong, 'field', 'key')} {wrong}") from wrong
