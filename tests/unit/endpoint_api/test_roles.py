"""Who may do what: one table of roles and verbs, over HTTP, as people sign in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import pytest

from libs.common.events.tenant import NO_LIMITS
from services.endpoint_api.core.caller import Ask, Scope
from services.endpoint_api.core.identity import Identity, as_operator
from services.endpoint_api.core.members import MemberKind
from services.endpoint_api.core.refusal import Unauthorized
from services.endpoint_api.core.roles import MEMBER_ROLES, Role
from tests.unit.endpoint_api.given import BODY, Stand

OPERATOR: Final = as_operator("root", "", None)


@dataclass(slots=True)
class SignedIn:
    """A provider that knows these bearers."""

    people: dict[str, Identity] = field(default_factory=dict)

    def identity(self, token: str) -> Identity:
        """Who it is. Raises Unauthorized."""
        if token not in self.people:
            raise Unauthorized("no such token")
        return self.people[token]


def signs_in(stand: Stand, name: str, *, is_operator: bool = False) -> dict[str, str]:
    """Headers of a person who signed in as ``name``."""
    assert isinstance(stand.people, SignedIn)
    token = f"a.{name.replace('@', '-').replace('.', '-')}.c"
    stand.people.people[token] = Identity((f"corp:{name}", name), is_operator)
    return {"authorization": f"Bearer {token}"}


def a_stand() -> Stand:
    """Two tenants: acme with main and side, initech with main."""
    stand = Stand(people=SignedIn())
    for tenant, projects in (("acme", ["main", "side"]), ("initech", ["main"])):
        stand.api.tenants.create(
            Ask(OPERATOR, f"make {tenant}"), tenant, display_name=tenant, tiers=[], quota=NO_LIMITS, projects=projects
        )
    return stand


def a_member(stand: Stand, role: Role, *, project: str = "", tenant: str = "acme", name: str = "") -> dict[str, str]:
    """Headers of a person with this role, who means the project main."""
    subject = name or f"{role}-{project or 'all'}@{tenant}.test"
    acting = as_operator("root", tenant, stand.tenancy.tenant(tenant))
    stand.api.members.put(
        Ask(acting, f"add {subject}"), kind=MemberKind.PERSON, subject=subject, role=role, project_id=project
    )
    return {**signs_in(stand, subject), "x-millrace-project": f"{tenant}/main"}


READERS: Final = {"owner", "developer", "viewer", "operator"}
MAKERS: Final = {"owner", "developer"}
OWNERS: Final = {"owner", "operator"}
ALL: Final = {*MEMBER_ROLES, "operator"}

# What is asked, and which roles may: everybody else is refused with 403.
TABLE: Final[tuple[tuple[str, str, Mapping[str, Any] | None, set[str]], ...]] = (
    ("GET", "/v1/endpoints", None, READERS),
    ("POST", "/v1/endpoints", BODY, MAKERS),
    ("GET", "/v1/endpoints/nothing", None, READERS),
    ("DELETE", "/v1/endpoints/nothing", None, MAKERS),
    ("GET", "/v1/operations/nothing", None, READERS),
    ("GET", "/v1/keys", None, READERS),
    ("POST", "/v1/keys", {"name": "k", "scopes": ["read"]}, MAKERS),
    ("DELETE", "/v1/keys/aaaaaaaaaa", None, MAKERS),
    ("GET", "/v1/tiers", None, READERS),
    ("GET", "/v1/models", None, READERS),
    ("GET", "/v1/catalogue", None, {"operator"}),
    ("GET", "/v1/quotas", None, ALL),
    ("GET", "/v1/projects", None, ALL),
    ("POST", "/v1/projects", {"id": "third"}, OWNERS),
    ("PATCH", "/v1/projects/side", {"quota": {"endpoints": 3}}, OWNERS),
    ("DELETE", "/v1/projects/side", None, OWNERS),
    ("GET", "/v1/members", None, OWNERS),
    ("POST", "/v1/members", {"subject": "new@acme.test", "role": "viewer"}, OWNERS),
    ("DELETE", "/v1/members/mb-aaaaaaaaaa", None, OWNERS),
    ("POST", "/v1/members/mb-aaaaaaaaaa/keys", {"name": "k"}, OWNERS),
    ("GET", "/v1/tenants", None, {"operator"}),
    ("GET", "/v1/tenants/acme", None, ALL),
    ("POST", "/v1/tenants", {"id": "hooli", "display_name": "Hooli"}, {"operator"}),
    ("PATCH", "/v1/tenants/acme", {"suspended": True}, {"operator"}),
)


@pytest.mark.parametrize("role", sorted(ALL))
@pytest.mark.parametrize(("method", "path", "body", "allowed"), TABLE, ids=[f"{row[0]} {row[1]}" for row in TABLE])
def test_a_role_may_what_its_row_says_and_no_more(
    role: str, method: str, path: str, body: Mapping[str, Any] | None, allowed: set[str]
) -> None:
    stand = a_stand()
    if role == "operator":
        headers = {**signs_in(stand, "root@corp.test", is_operator=True), "x-millrace-project": "acme/main"}
    else:
        headers = a_member(stand, Role(role))

    answer = stand.client.request(method, path, json=body, headers=headers)

    assert (answer.status_code != 403) == (role in allowed), answer.text
    assert answer.status_code < 500
    assert answer.status_code != 422, answer.text


def test_a_role_in_one_project_ends_at_its_walls() -> None:
    stand = a_stand()
    headers = a_member(stand, Role.OWNER, project="main")

    def ask(method: str, path: str, body: Mapping[str, Any] | None = None, place: str = "acme/main") -> int:
        asked = {**headers, "x-millrace-project": place}
        return stand.client.request(method, path, json=body, headers=asked).status_code

    assert ask("POST", "/v1/endpoints", BODY) == 202
    assert ask("GET", "/v1/endpoints", place="acme/side") == 403
    assert ask("GET", "/v1/quotas", place="acme") == 403
    assert ask("POST", "/v1/projects", {"id": "third"}) == 403
    assert ask("POST", "/v1/members", {"subject": "a@b.test", "role": "owner"}) == 403
    assert ask("POST", "/v1/members", {"subject": "a@b.test", "role": "owner", "project_id": "side"}) == 403
    assert ask("POST", "/v1/members", {"subject": "a@b.test", "role": "owner", "project_id": "main"}) == 200
    assert [each["id"] for each in stand.client.get("/v1/projects", headers=headers).json()["items"]] == ["main"]
    members = stand.client.get("/v1/members", headers=headers).json()["items"]
    assert {each["project_id"] for each in members} == {"main"}


def test_another_tenants_project_is_refused_in_the_words_for_one_that_never_was() -> None:
    stand = a_stand()
    headers = a_member(stand, Role.OWNER)

    answers = [
        stand.client.get("/v1/endpoints", headers={**headers, "x-millrace-project": each, "x-request-id": "r"})
        for each in ("initech/main", "nobody/main", "acme/nothing", "nonsense", "a/b/c")
    ]

    assert {each.status_code for each in answers} == {403}
    assert len({each.text for each in answers}) == 1
    assert answers[0].json()["code"] == "not_a_member"


@pytest.mark.parametrize("path", ["/v1/tenants/{}", "/v1/members/{}", "/v1/projects/{}"])
def test_another_tenants_records_are_those_that_never_were(path: str) -> None:
    stand = a_stand()
    a_member(stand, Role.OWNER, tenant="initech")
    acting = as_operator("root", "initech", stand.tenancy.tenant("initech"))
    [theirs] = stand.api.members.list(acting)
    mine = a_member(stand, Role.OWNER)
    known = {"/v1/tenants/{}": "initech", "/v1/members/{}": theirs.id, "/v1/projects/{}": "secret"}[path]
    stand.api.tenants.put_project(Ask(acting, "r"), "secret", quota=NO_LIMITS, is_new=True)
    method = "GET" if "tenants" in path else "DELETE"

    answers = [
        stand.client.request(method, path.format(each), headers={**mine, "x-request-id": "r"})
        for each in (known, "mb-zzzzzzzzzz")
    ]

    assert {each.status_code for each in answers} == {404}
    assert len({each.text for each in answers}) == 1
    assert len(stand.api.members.list(acting)) == 1


def test_who_has_several_projects_is_told_to_choose_and_who_has_one_need_not() -> None:
    stand = a_stand()
    several, one = a_member(stand, Role.VIEWER), a_member(stand, Role.VIEWER, project="side")
    for headers in (several, one):
        del headers["x-millrace-project"]

    asked, answered = (stand.client.get("/v1/quotas", headers=each) for each in (several, one))

    assert (asked.status_code, asked.json()["code"]) == (403, "project_not_chosen")
    assert "acme/main, acme/side" in asked.json()["detail"]
    assert answered.status_code == 200


def test_roles_of_one_person_add_up() -> None:
    stand = a_stand()
    headers = a_member(stand, Role.VIEWER, name="ada@acme.test")
    a_member(stand, Role.DEVELOPER, project="main", name="corp:ada@acme.test")

    assert stand.client.post("/v1/endpoints", json=BODY, headers=headers).status_code == 202
    side = {**headers, "x-millrace-project": "acme/side"}
    assert stand.client.post("/v1/endpoints", json=BODY, headers=side).status_code == 403
    assert stand.client.get("/v1/endpoints", headers=side).status_code == 200


def test_somebody_without_any_role_is_a_member_of_nothing() -> None:
    stand = a_stand()

    answer = stand.client.get("/v1/endpoints", headers=signs_in(stand, "eve@evil.test"))

    assert (answer.status_code, answer.json()["code"]) == (403, "not_a_member")


def test_a_role_that_was_taken_away_holds_no_longer() -> None:
    stand = a_stand()
    owner, gone = a_member(stand, Role.OWNER), a_member(stand, Role.DEVELOPER)
    [member] = [
        each for each in stand.client.get("/v1/members", headers=owner).json()["items"] if each["role"] == "developer"
    ]
    assert stand.client.get("/v1/endpoints", headers=gone).status_code == 200

    assert stand.client.delete(f"/v1/members/{member['id']}", headers=owner).status_code == 204
    assert stand.client.delete(f"/v1/members/{member['id']}", headers=owner).status_code == 204

    assert stand.client.get("/v1/endpoints", headers=gone).status_code == 403


def test_an_owner_can_make_nobody_an_operator() -> None:
    stand = a_stand()

    answer = stand.client.post(
        "/v1/members", json={"subject": "a@b.test", "role": "operator"}, headers=a_member(stand, Role.OWNER)
    )

    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "role")


@pytest.mark.parametrize(
    ("kind", "subject", "fine"),
    [
        ("person", "Ada@Acme.test", True),
        ("person", "corp:00u1a", True),
        ("person", "ada", False),
        ("person", "Corp:ada", False),
        ("person", "corp:a b", False),
        ("service_account", "ci", True),
        ("service_account", "ada@acme.test", False),
    ],
)
def test_a_subject_must_be_one_that_can_sign_in(kind: str, subject: str, fine: bool) -> None:
    stand = a_stand()
    body = {"kind": kind, "subject": subject, "role": "viewer"}

    answer = stand.client.post("/v1/members", json=body, headers=a_member(stand, Role.OWNER))

    assert answer.status_code == (200 if fine else 422), answer.text
    if fine:
        assert answer.json()["subject"] == subject.lower()


def test_a_service_accounts_keys_carry_its_role_until_it_is_removed() -> None:
    stand = a_stand()
    owner = a_member(stand, Role.OWNER)
    account = stand.client.post(
        "/v1/members", json={"kind": "service_account", "subject": "ci", "role": "developer"}, headers=owner
    ).json()
    made = stand.client.post(f"/v1/members/{account['id']}/keys", json={"name": "k"}, headers=owner)
    key = {"authorization": f"Bearer {made.json()['key']}"}
    assert stand.client.post("/v1/endpoints", json=BODY, headers=key).status_code == 202
    assert stand.client.get("/v1/members", headers=key).status_code == 403

    assert stand.client.delete(f"/v1/members/{account['id']}", headers=owner).status_code == 204

    assert stand.client.get("/v1/endpoints", headers=key).status_code == 401
    revoked = [each for each in stand.client.get("/v1/keys", headers=owner).json()["items"] if each["revoked_at"]]
    assert [each["id"] for each in revoked] == [made.json()["id"]]


def test_a_service_account_that_lost_its_role_has_no_power_even_before_its_keys_are_revoked() -> None:
    stand = a_stand()
    owner = a_member(stand, Role.OWNER)
    body = {"kind": "service_account", "subject": "books", "role": "billing"}
    account = stand.client.post("/v1/members", json=body, headers=owner).json()
    made = stand.client.post(f"/v1/members/{account['id']}/keys", json={"name": "k"}, headers=owner).json()
    key = {"authorization": f"Bearer {made['key']}"}
    assert stand.client.get("/v1/quotas", headers=key).status_code == 200
    assert stand.client.get("/v1/endpoints", headers=key).status_code == 403
    stand.api.members._revoke_keys_of = lambda ask, member: None  # type: ignore[method-assign]  # A crash here.

    stand.client.delete(f"/v1/members/{account['id']}", headers=owner)

    assert stand.client.get("/v1/quotas", headers=key).status_code == 401


def test_a_service_account_keeps_its_role() -> None:
    stand = a_stand()
    owner = a_member(stand, Role.OWNER)
    for role, status in (("developer", 200), ("developer", 200), ("viewer", 409)):
        body = {"kind": "service_account", "subject": "ci", "role": role}
        assert stand.client.post("/v1/members", json=body, headers=owner).status_code == status


def test_a_developer_makes_no_key_of_a_service_account_that_may_more() -> None:
    stand = a_stand()
    owner, developer = a_member(stand, Role.OWNER), a_member(stand, Role.DEVELOPER)
    body = {"kind": "service_account", "subject": "boss", "role": "owner"}
    account = stand.client.post("/v1/members", json=body, headers=owner).json()

    answer = stand.client.post(f"/v1/members/{account['id']}/keys", json={"name": "k"}, headers=developer)

    assert answer.status_code == 403


def test_a_key_for_a_program_can_have_no_scope_of_a_person() -> None:
    stand = a_stand()

    for scope in (Scope.BILLING, Scope.MEMBERS, Scope.OPERATE):
        answer = stand.client.post(
            "/v1/keys", json={"name": "k", "scopes": [scope]}, headers=a_member(stand, Role.OWNER)
        )
        assert answer.status_code == 422


def test_an_operator_makes_a_new_tenants_first_key_in_a_project_that_it_names() -> None:
    stand = a_stand()
    operator = signs_in(stand, "root@corp.test", is_operator=True)
    stand.client.post(
        "/v1/tenants", json={"id": "hooli", "display_name": "Hooli", "projects": ["main"]}, headers=operator
    )
    account = {"kind": "service_account", "subject": "terraform", "role": "owner"}
    in_project, in_tenant = ({**operator, "x-millrace-project": each} for each in ("hooli/main", "hooli"))
    member = stand.client.post("/v1/members", json=account, headers=in_tenant).json()["id"]

    refused = stand.client.post(f"/v1/members/{member}/keys", json={"name": "first"}, headers=in_tenant)
    made = stand.client.post(f"/v1/members/{member}/keys", json={"name": "first"}, headers=in_project)

    assert (refused.status_code, refused.json()["code"]) == (403, "project_not_chosen")
    owner = {"authorization": f"Bearer {made.json()['key']}"}
    assert stand.client.post("/v1/projects", json={"id": "side"}, headers=owner).status_code == 201
    assert stand.client.post("/v1/endpoints", json=BODY, headers=owner).status_code == 202
