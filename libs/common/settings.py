"""Settings: one frozen class per service, read once, in `__main__`, from the environment (`MILLRACE_…`)."""

from __future__ import annotations

from typing import TypeVar

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from libs.common.errors import Invalid

SettingsT = TypeVar("SettingsT", bound=BaseSettings)


class CommonSettings(BaseSettings):
    """What every service needs to know. Units are in the names."""

    model_config = SettingsConfigDict(env_prefix="MILLRACE_", frozen=True, extra="ignore", hide_input_in_errors=True)

    nats_url: str = "nats://127.0.0.1:8422"
    database_url: str = Field(description="sqlite:////path/file.db, or postgresql+psycopg://user@host/db")
    admin_host: str = "127.0.0.1"  # Health and metrics stay on the machine unless the operator says otherwise.
    admin_port: int
    log_level: str = "INFO"
    reconcile_s: float = 0.3  # Bounds how stale our view of a thing in motion is.
    rest_s: float = 1.0  # How often outbox, clock and world are looked at unasked: for what another process left.
    resync_s: float = 5.0  # How often things at rest are looked at: a dead replica is unrouted within 10 s.
    handler_threads: int = 4  # Bus messages handled at once; SQLite writes take turns anyway.


def read(kind: type[SettingsT]) -> SettingsT:
    """Read settings from the environment.

    Raises Invalid naming each wrong variable, so that a process can end with one line.
    """
    try:
        return kind()
    except ValidationError as wrong:
        names = ", ".join(
            f"MILLRACE_{'_'.join(map(str, each['loc'])).upper()} ({each['msg']})" for each in wrong.errors()
        )
        raise Invalid(f"settings are wrong or missing: {names}") from None
