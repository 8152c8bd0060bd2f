"""Why a claim waits or fails: the codes that customers and programs read. A published code never changes."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Reason(StrEnum):
    """A reason code of `capacity.waiting` and `capacity.failed`."""

    # Waits that end by themselves.
    PROJECT_PENDING = "ProjectPending"
    CLUSTER_PENDING = "ClusterPending"
    NODES_PENDING = "NodesPending"
    GPU_PENDING = "GpuPending"
    RUNTIME_PRESENT = "RuntimePresent"
    CLUSTER_DELETING = "ClusterDeleting"
    CONFIRMING_GONE = "ConfirmingGone"
    # Waits that need somebody or something else.
    NO_CAPACITY = "NoCapacity"
    QUOTA_EXCEEDED = "QuotaExceeded"
    CLUSTER_FAILED = "ClusterFailed"
    NODE_FAILED = "NodeFailed"
    NODE_LOST = "NodeLost"
    PLATFORM_UNAVAILABLE = "PlatformUnavailable"
    PLATFORM_UNAUTHORIZED = "PlatformUnauthorized"
    PLATFORM_FORBIDDEN = "PlatformForbidden"
    PLATFORM_THROTTLED = "PlatformThrottled"
    PLATFORM_GARBLED = "PlatformGarbled"
    PLATFORM_CONFLICT = "PlatformConflict"
    # No waiting helps.
    TEMPLATE_UNKNOWN = "TemplateUnknown"
    TEMPLATE_INVALID = "TemplateInvalid"
    TEMPLATE_NOT_ALLOWED = "TemplateNotAllowed"
    NODE_TYPE_UNKNOWN = "NodeTypeUnknown"
    NODE_TYPE_MISMATCH = "NodeTypeMismatch"
    NODE_TYPE_NOT_ALLOWED = "NodeTypeNotAllowed"
    LICENCE_MISSING = "LicenceMissing"
    NAME_TAKEN = "NameTaken"
    PLATFORM_REFUSED = "PlatformRefused"


ORDINARY = frozenset(
    {
        Reason.PROJECT_PENDING,
        Reason.CLUSTER_PENDING,
        Reason.NODES_PENDING,
        Reason.GPU_PENDING,
        Reason.RUNTIME_PRESENT,
        Reason.CLUSTER_DELETING,
        Reason.CONFIRMING_GONE,
    }
)


@dataclass(frozen=True, slots=True)
class Why:
    """A reason, and a sentence for people. The code is text, so that one from a newer build passes through."""

    reason: str
    message: str

    @property
    def is_trouble(self) -> bool:
        """Whether somebody may want to know of it before it is over."""
        return self.reason not in ORDINARY
