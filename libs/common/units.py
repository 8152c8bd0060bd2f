"""Units of time and size, so that a number always says what it counts. Time inside is integer milliseconds."""

from __future__ import annotations

from typing import Final

SECOND_MS: Final = 1_000
MINUTE_MS: Final = 60 * SECOND_MS
HOUR_MS: Final = 60 * MINUTE_MS
DAY_MS: Final = 24 * HOUR_MS

MINUTE_S: Final = 60
HOUR_S: Final = 60 * MINUTE_S
DAY_S: Final = 24 * HOUR_S

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB
