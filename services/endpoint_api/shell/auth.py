"""Who asks: the bearer of an API key, checked against our records, or of an issuer's token; and in which project."""

from __future__ import annotations

from typing import Final

from libs.common.client_address import client_address
from libs.common.keys import Address, Keyring, key_id_of
from libs.common.runner import Runner
from libs.common.service import Service
from services.endpoint_api.core import identity
from services.endpoint_api.core.caller import Caller, Scope
from services.endpoint_api.core.keys import entry_of
from services.endpoint_api.core.members import scopes_in
from services.endpoint_api.core.refusal import Unauthorized
from services.endpoint_api.core.state import Key
from services.endpoint_api.shell.oidc import NoPeople, People
from services.endpoint_api.shell.ports import Ports
from services.endpoint_api.shell.tenancy import Tenancy

SCHEME: Final = "bearer "
REFUSAL: Final = "send a key that is good as 'Authorization: Bearer <key>'"


class Authenticator:
    """Turns what a request says of who asks into a caller."""

    def __init__(self, service: Service, ports: Ports, people: People | None = None) -> None:
        self._keys: Runner[Key] = service.runner("key")
        self._tenancy = Tenancy.of(service, ports)
        self._clock = ports.clock
        self._people: People = people or NoPeople()
        self._trusted = ports.trusted_proxies
        self._use = ports.key_use

    def caller(self, authorization: str, *, project: str = "", peer: str = "", forwarded_for: str = "") -> Caller:
        """The caller. ``project`` is ``<tenant>/<project>``: who has several says which; a key has one of its own.
        ``peer`` is who connected; what it was sent for counts if it is a proxy that we trust.

        Raises Unauthorized, in the same words whatever is wrong with a key or token; Forbidden for the project.
        """
        bearer = authorization[len(SCHEME) :] if authorization[: len(SCHEME)].lower() == SCHEME else ""
        if bearer.count(".") == 2:  # A token: three parts. A key has no dot.
            return self._person(bearer, project)
        key = self._good_key(bearer, client_address(peer, forwarded_for, self._trusted))
        if Scope.OPERATE in key.scopes:
            return identity.as_operator(key.id, project, self._tenancy.tenant(project.partition("/")[0]))
        return self._program(key, project)

    def _good_key(self, plaintext: str, address: Address | None) -> Key:
        key_id = key_id_of(plaintext)
        key = self._keys.state(key_id) if key_id else None
        entry = entry_of(key) if key else None
        ring, now_ms = Keyring({entry.key_id: entry} if entry else None), self._clock.now_ms()
        good = ring.check(plaintext, now_ms=now_ms, address=address)
        if good is None or key is None:
            raise Unauthorized(REFUSAL)
        self._use.note(key.id, now_ms)
        return key

    def _program(self, key: Key, project: str) -> Caller:
        tenant = self._tenancy.tenant(key.tenant_id)
        if tenant is None or tenant.project(key.project_id) is None:
            raise Unauthorized(REFUSAL)
        identity.check_active(tenant)
        if project not in ("", f"{key.tenant_id}/{key.project_id}"):
            raise identity.not_a_member()
        scopes, in_tenant = frozenset(key.scopes), frozenset[str]()
        if key.member:  # A service account's: what its role allows now, not what it did when the key was made.
            member = self._tenancy.role(key.member)
            if member is None:
                raise Unauthorized(REFUSAL)
            scopes, in_tenant = scopes_in([member], key.project_id), scopes_in([member], "")
        return Caller(key.tenant_id, key.project_id, f"key:{key.id}", scopes, in_tenant)

    def _person(self, token: str, project: str) -> Caller:
        who = self._people.identity(token)
        if who.is_operator:
            return identity.as_operator(who.names[0], project, self._tenancy.tenant(project.partition("/")[0]))
        roles = self._tenancy.roles_of(who.names)
        tenants = {each: self._tenancy.tenant(each) for each in {role.tenant_id for role in roles}}
        known = {each: tenant for each, tenant in tenants.items() if tenant is not None}
        return identity.as_member(who, roles, known, project)
