"""Why a fetch ended without a model: a reason for programs, words for people, and whether a second try can help."""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class Reason(StrEnum):
    """What the termination message of the container begins with."""

    DIGEST_MISMATCH = "DigestMismatch"
    SIZE_MISMATCH = "SizeMismatch"
    NOT_FOUND = "ModelNotFound"
    GATED = "ModelGated"
    FORBIDDEN = "SourceForbidden"
    DISK_TOO_SMALL = "DiskTooSmall"
    UNREACHABLE = "SourceUnreachable"
    INVALID = "SourceInvalid"


EXIT_CODES: Final = {
    Reason.DIGEST_MISMATCH: 10,
    Reason.SIZE_MISMATCH: 11,
    Reason.NOT_FOUND: 12,
    Reason.GATED: 13,
    Reason.FORBIDDEN: 14,
    Reason.DISK_TOO_SMALL: 15,
    Reason.UNREACHABLE: 16,
    Reason.INVALID: 17,
}


class FetchFailed(Exception):
    """The model can't be brought; what is on the disk so far stays for the next try, unless it is wrong."""

    def __init__(self, reason: Reason, message: str) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason


class Interrupted(Exception):
    """A read ended early or not at all: worth another try from where it stopped, after `retry_after_s`."""

    def __init__(self, message: str, *, retry_after_s: float = 0.0) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
