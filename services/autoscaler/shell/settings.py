"""What an operator may turn."""

from __future__ import annotations

from pydantic import Field

from libs.common.settings import CommonSettings
from libs.common.units import SECOND_MS
from services.autoscaler.core.policy import Policy


class Settings(CommonSettings):
    """Settings of autoscaler, from `MILLRACE_…`."""

    admin_port: int = 8706
    stable_window_s: int = Field(default=60, ge=6, le=3600)  # How long need must be gone before replicas go.
    panic_window_s: int = Field(default=6, ge=1, le=3600)  # How long need must be there before replicas come.
    stale_s: int = Field(default=15, ge=1, le=600)  # Three reports of a router; longer silence is missing data.
    evaluate_s: int = Field(default=5, ge=1, le=600)  # How late a scale-down that is due may be noticed.

    @property
    def policy(self) -> Policy:
        """The times that scaling goes by."""
        return Policy(
            stable_ms=self.stable_window_s * SECOND_MS,
            panic_ms=min(self.panic_window_s, self.stable_window_s) * SECOND_MS,
            stale_ms=self.stale_s * SECOND_MS,
            evaluate_ms=self.evaluate_s * SECOND_MS,
        )
