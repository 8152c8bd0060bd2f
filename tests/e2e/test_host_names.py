"""A host name of a tenant's own, at the command line: proved in DNS, waited for, and taken away again."""

from __future__ import annotations

import pytest

from tests.e2e.local_profile import Profile, wait_until
from tests.e2e.test_cli import Command

pytestmark = [pytest.mark.xdist_group("profile"), pytest.mark.chaos]

DOMAIN, HOST = "acme.example", "api.acme.example"


def test_a_host_name_is_proved_and_waited_for_and_the_endpoint_serves_meanwhile(
    profile: Profile, zones: dict[str, tuple[str, ...]], served: str
) -> None:
    run = Command(profile)
    unproved = run("endpoints", "update", served, "--hostname", HOST)
    missing = run("domains", "verify", DOMAIN)
    record = run.json("domains", "show", DOMAIN)
    zones[record["record_name"]] = (record["record_text"],)
    verified = run("domains", "verify", DOMAIN)

    run("endpoints", "update", served, "--hostname", HOST)
    endpoint_id = run.json("endpoints", "get", served)["id"]
    wait_until(lambda: profile.endpoint(endpoint_id)["status"]["reason"] == "DnsNotReady", "it is not waited for")
    stage = profile.stage(endpoint_id)
    answer = run.json("chat", served, "What is a millrace?", "--max-tokens", "3")
    kept = run("domains", "release", DOMAIN)
    run("endpoints", "update", served, "--hostname", "", "--wait")
    released = run("domains", "release", DOMAIN)

    assert (unproved.code, "spec.hostname" in unproved.err) == (1, True)
    assert (missing.code, record["record_text"] in missing.err) == (1, True)
    assert (verified.code, stage, kept.code, released.code) == (0, "updating", 1, 0)
    assert answer["content"]
    assert profile.endpoint(endpoint_id)["status"]["url"] == profile.credentials.router_url
