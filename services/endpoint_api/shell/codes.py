"""Every code that a problem may have: what programs of tenants are written against, so part of the contract."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

CODES: Final[Mapping[int, tuple[str, ...]]] = MappingProxyType(
    {
        400: ("malformed_json", "malformed_request"),
        401: ("unauthorized",),
        403: ("missing_scope", "not_a_member", "project_not_chosen", "tenant_suspended"),
        404: ("no_such_route", "not_found"),
        405: ("method_not_allowed",),
        409: (
            *("being_deleted", "changed_meanwhile", "deletion_is_final", "domain_in_use", "endpoint_exists"),
            *("key_already_made",),
            *("key_exists", "key_over", "key_rotated", "name_taken", "not_cancellable", "operation_finished"),
            *("not_pausable", "project_not_empty", "request_in_progress", "role_is_fixed", "secret_already_made"),
            *("too_many_projects", "too_many_redeliveries", "webhook_already_made"),
        ),
        410: ("gone",),
        412: ("precondition_failed",),
        413: ("body_too_large",),
        415: ("unsupported_media_type",),
        422: (
            *(
                "above_tenant_quota",
                "adapter_named_twice",
                "adapter_rank_too_high",
                "domain_lapsing",
                "domain_not_verified",
                "domain_taken",
                "hostname_not_yours",
                "hostname_taken",
                "idempotency_key_reused",
                "invalid",
            ),
            *("model_does_not_fit", "too_many_adapters", "too_many_replicas", "unknown_model"),
            *("unknown_region", "unknown_template", "unknown_tier"),
        ),
        429: ("quota_exceeded",),
        431: ("headers_too_large",),
        500: ("internal",),
        503: ("unavailable",),
    }
)


def in_words() -> str:
    """All of them, for the document."""
    listed = "; ".join(f"{status}: {', '.join(codes)}" for status, codes in CODES.items())
    return f"For programs; a code keeps its meaning, and new ones may come. {listed}."
