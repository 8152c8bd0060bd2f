"""Tenants, their projects and quotas, what is sold and who changed what, as in the OpenAPI document."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from libs.client.paging import pages
from libs.client.transport import Json, Transport, segment


class Tenants:
    """All tenants; for operators. A quota is a dict of the limits of the document; what is left out has none."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(
        self,
        tenant_id: str,
        display_name: str,
        *,
        tiers: Sequence[str] = (),
        quota: Json | None = None,
        projects: Sequence[str] = (),
    ) -> Json:
        """Make a tenant with its first projects."""
        body = {"id": tenant_id, "display_name": display_name, "tiers": list(tiers), "projects": list(projects)}
        return self._transport.call("POST", "/v1/tenants", body={**body, "quota": quota or {}})

    def list(self) -> Iterator[Json]:
        """All tenants."""
        return pages(self._transport, "/v1/tenants", {})

    def get(self, tenant_id: str) -> Json:
        """One; who is no operator sees their own only."""
        return self._transport.call("GET", f"/v1/tenants/{segment(tenant_id)}")

    def change(
        self,
        tenant_id: str,
        *,
        display_name: str | None = None,
        tiers: Sequence[str] | None = None,
        quota: Json | None = None,
        suspended: bool | None = None,
    ) -> Json:
        """Rename, entitle, limit, suspend or bring back; None leaves it as it is, `tiers` and `quota` go as a whole."""
        said = {
            "display_name": display_name,
            "tiers": None if tiers is None else list(tiers),
            "quota": quota,
            "suspended": suspended,
        }
        body = {name: value for name, value in said.items() if value is not None}
        return self._transport.call("PATCH", f"/v1/tenants/{segment(tenant_id)}", body=body)


class Projects:
    """The projects of the tenant."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def create(self, project_id: str, *, quota: Json | None = None) -> Json:
        """Make one."""
        return self._transport.call("POST", "/v1/projects", body={"id": project_id, "quota": quota or {}})

    def list(self) -> list[Json]:
        """All that the caller has a role in."""
        items: list[Json] = self._transport.call("GET", "/v1/projects")["items"]
        return items

    def change(self, project_id: str, *, quota: Json) -> Json:
        """Give it another quota, in place of the whole that it has."""
        return self._transport.call("PATCH", f"/v1/projects/{segment(project_id)}", body={"quota": quota})

    def remove(self, project_id: str) -> None:
        """Take away one that has no endpoints; its keys are refused from then on."""
        self._transport.call("DELETE", f"/v1/projects/{segment(project_id)}")

    def quotas(self) -> Sequence[Json]:
        """Every limit that holds here, and how much of it is used."""
        items: Sequence[Json] = self._transport.call("GET", "/v1/quotas")["items"]
        return items


class Offers:
    """What is sold."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def tiers(self) -> list[Json]:
        """The tiers that the tenant may use."""
        items: list[Json] = self._transport.call("GET", "/v1/tiers")["items"]
        return items

    def models(self) -> list[Json]:
        """The models that can be served."""
        items: list[Json] = self._transport.call("GET", "/v1/models")["items"]
        return items

    def catalogue(self) -> list[Json]:
        """All tiers with what they run on; for operators."""
        items: list[Json] = self._transport.call("GET", "/v1/catalogue")["items"]
        return items


class Audit:
    """Who changed what."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def page(self, *, after: int = 0, limit: int = 50) -> Json:
        """Rows from behind row `after`, oldest first, and `next_after` to go on from."""
        return self._transport.call("GET", "/v1/audit", query={"after": after, "limit": limit})
