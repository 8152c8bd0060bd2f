"""What an operator may turn."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from libs.common.settings import CommonSettings
from libs.common.units import HOUR_MS, SECOND_MS
from services.metering.core.periods import LATE_H
from services.metering.core.windows import Windows


class Settings(CommonSettings):
    """Settings of metering, from `MILLRACE_…`."""

    admin_port: int = 8705
    http_host: str = "127.0.0.1"  # The read API checks keys, but leaves the machine only if the operator says so.
    http_port: int = 8707
    window_s: int = Field(
        default=60, ge=1, le=86_400
    )  # Size of a billing window. Fixed for the life of a ledger; the local profile uses 10.
    settle_s: int = Field(
        default=5, ge=0, le=3600
    )  # How long after its end a window is told; routers report within about a second.
    audit_s: float = Field(default=60.0, gt=0)  # How often the recent ledger is audited; a difference pages.
    audit_span_s: int = Field(
        default=3600, ge=0
    )  # How far back each of those audits looks; `audit` on the command line takes all of it.
    prices_file: Path | None = None  # What usage costs; without it nobody is told of money.
    exports_file: Path | None = None  # Which billing systems are told; none if it is not set.
    export_s: float = Field(default=1.0, gt=0)  # How often a look is taken for what to send; a window is told once.

    late_h: int = Field(default=LATE_H, ge=0)  # How long after its end a period may be closed: so late usage is in it.

    reconcile_h: float = Field(
        default=24.0, gt=0
    )  # How often ledger, tellings and exports are held against each other.

    @property
    def late_ms(self) -> int:
        """The late window."""
        return self.late_h * HOUR_MS

    @property
    def windows(self) -> Windows:
        """How windows are cut."""
        return Windows(size_ms=self.window_s * SECOND_MS, settle_ms=self.settle_s * SECOND_MS)
