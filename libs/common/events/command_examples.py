"""A command of each kind that is accepted as it stands, for schemas and documentation."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from libs.common.events.command import (
    CancelOperation,
    Command,
    CreateEndpoint,
    DeleteEndpoint,
    DrainEndpoint,
    PauseEndpoint,
    PauseOperation,
    ResumeEndpoint,
    ResumeOperation,
    RevokeKey,
    ScaleEndpoint,
    UpdateEndpoint,
)


def example(kind: type[Command]) -> dict[str, Any]:
    """Its data."""
    whose = {"tenant_id": "acme", "project_id": "main", "actor": "jane@acme.example"}
    return {**whose, **EXAMPLES[kind]}


EXAMPLES: Final[Mapping[type[Command], dict[str, Any]]] = MappingProxyType(
    {
        CreateEndpoint: {
            "name": "chat",
            "spec": {"model": "millrace/ngram-1", "tier": "l40s-dedicated", "region": "eu-1", "scaling": {"max": 2}},
        },
        UpdateEndpoint: {"endpoint": "chat", "spec": {"model": "millrace/ngram-1-large"}},
        ScaleEndpoint: {"endpoint": "chat", "scaling": {"min": 1, "max": 4}},
        PauseEndpoint: {"endpoint": "chat", "drain_deadline_s": 60},
        DrainEndpoint: {"endpoint": "chat", "drain_deadline_s": 300},
        ResumeEndpoint: {"endpoint": "chat"},
        DeleteEndpoint: {"endpoint": "chat"},
        CancelOperation: {"operation": "op-7f3akq2xpd-2"},
        PauseOperation: {"operation": "op-7f3akq2xpd-2"},
        ResumeOperation: {"operation": "op-7f3akq2xpd-2"},
        RevokeKey: {"key": "abcdefghij"},
    }
)
