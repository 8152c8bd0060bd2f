"""An operator and a tenant's owner: what was given, its limits, and its walls; at the command line where people are."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from libs.client import Json, Millrace, Refused
from tests.e2e.command import COLUMNS, Said, millrace
from tests.e2e.local_profile import Profile

pytestmark = [pytest.mark.xdist_group("profile"), pytest.mark.chaos]

SPEC: Json = {"model": "millrace/ngram-1", "tier": "l40s-dedicated", "region": "eu-1"}


@dataclass(frozen=True, slots=True)
class Owner:
    """The owner of a tenant that may have one endpoint: a program with a key."""

    key: str
    api: Millrace


@pytest.fixture
def operator(profile: Profile) -> Millrace:
    """The operator, looking at the tenant that it makes."""
    key = json.loads(profile.home.credentials.read_text())["operator_key"]
    return Millrace(profile.credentials.api_url, key)


@pytest.fixture
def owner(profile: Profile, operator: Millrace) -> Iterator[Owner]:
    """The tenant's owner, as an operator made it from nothing; its endpoint is deleted afterwards."""
    made = millrace(
        profile.home.path,
        *("--profile", "operator", "tenants", "create", "hooli", "--project", "main", "--endpoints", "1"),
        *("--tier", "h100-dedicated", "--gpus", "*=4"),
    )
    assert "1 endpoint, 4 GPUs of each other class" in made.out, made
    key = json.loads(profile.home.credentials.read_text())["operator_key"]
    in_main = Millrace(profile.credentials.api_url, key, project="hooli/main")
    account = in_main.members.put("terraform", "owner", kind="service_account")
    found = in_main.members.create_key(account["id"], "first")["key"]
    api = Millrace(profile.credentials.api_url, found)
    yield Owner(found, api)
    api.operations.wait(api.endpoints.delete("one")["id"])


def test_a_tenant_lives_within_what_an_operator_gave_it(profile: Profile, operator: Millrace, owner: Owner) -> None:
    api, other = owner.api, profile.client.api
    api.projects.create("side", quota={"endpoints": 1})
    api.members.put("ada@hooli.test", "viewer", project_id="side")
    api.endpoints.create("one", SPEC)

    second = _says(profile, owner, "endpoints", "create", "two", "--model", SPEC["model"], "--tier", SPEC["tier"])
    quotas = _says(profile, owner, "quotas")

    for word in ("tenant", "endpoints", "1", "delete"):
        assert word in second.trouble
    rows = [[each.strip() for each in line.split("  ") if each.strip()] for line in quotas.out.splitlines()]
    assert ["tenant", "endpoints", "1", "1", "0"] in rows
    assert ["tenant", "GPUs of terraform.gpu-l40s", "4", "1", "3"] in rows
    assert max(map(len, quotas.out.splitlines())) <= COLUMNS
    assert {each["subject"] for each in api.members.list()} == {"terraform", "ada@hooli.test"}

    assert "one" not in {each["name"] for each in other.endpoints.list()}
    assert "hooli" not in json.dumps([other.projects.list(), list(other.operations.list()), other.audit.page()])
    for ours, nobodys in (("one", "never"), (next(iter(api.operations.list()))["endpoint_id"], "ep-aaaaaaaaaa")):
        assert _refusal(other, ours) == _refusal(other, nobodys)

    operator.tenants.change("hooli", suspended=True)
    with pytest.raises(Refused, match="suspended"):
        api.endpoints.get("one")
    operator.tenants.change("hooli", suspended=False)
    assert api.endpoints.get("one")["name"] == "one"


def _says(profile: Profile, owner: Owner, *arguments: str) -> Said:
    return millrace(profile.home.path, *arguments, more={"MILLRACE_API_KEY": owner.key})


def _refusal(asker: Millrace, ref: str) -> str:
    with pytest.raises(Refused) as refusal:
        asker.endpoints.get(ref)
    return str(refusal.value)
