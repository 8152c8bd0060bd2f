"""Roles: what a member may do, as one table. Keys for programs have scopes of their own choice, see KEY_SCOPES."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from services.endpoint_api.core.caller import Scope


class Role(StrEnum):
    """What a person or service account is in a tenant, or in one project of it. Operators are outside of tenants."""

    OWNER = "owner"
    DEVELOPER = "developer"
    VIEWER = "viewer"
    BILLING = "billing"
    OPERATOR = "operator"


SCOPES: Final[Mapping[Role, frozenset[Scope]]] = MappingProxyType(
    {
        Role.OWNER: frozenset({Scope.INFERENCE, Scope.READ, Scope.MANAGE, Scope.BILLING, Scope.MEMBERS}),
        Role.DEVELOPER: frozenset({Scope.INFERENCE, Scope.READ, Scope.MANAGE}),
        Role.VIEWER: frozenset({Scope.READ}),
        Role.BILLING: frozenset({Scope.BILLING}),
        Role.OPERATOR: frozenset({Scope.OPERATE, Scope.READ, Scope.BILLING}),
    }
)

MEMBER_ROLES: Final = frozenset(Role) - {Role.OPERATOR}  # What a tenant's owner may give.
