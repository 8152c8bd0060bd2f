"""Asking DNS for texts: of resolvers that answer, that answer otherwise, and that do not."""

from __future__ import annotations

import pytest

from libs.common.errors import Invalid, Unavailable
from services.endpoint_api.shell.dns import Dns, servers_of
from tests.support.name_server import NameServer
from tests.unit.endpoint_api.given import CountingEntropy

NAME = "_millrace.acme.example"
PROOF = "millrace-verify=0123456789"


def dns_of(*servers: NameServer) -> Dns:
    return Dns(tuple(each.address for each in servers), CountingEntropy(), timeout_s=0.5)


def test_the_texts_of_a_name_are_found_among_other_records() -> None:
    with NameServer({NAME: ("v=spf1 -all", PROOF)}) as server:
        assert dns_of(server).texts(NAME) == ("v=spf1 -all", PROOF)
        assert dns_of(server).texts("_millrace.nobody.example") == ()


def test_a_text_of_several_strings_is_one() -> None:
    with NameServer({NAME: ("x" * 300,)}) as server:
        assert dns_of(server).texts(NAME) == ("x" * 300,)


def test_an_answer_that_is_cut_short_is_asked_for_again_over_tcp() -> None:
    with NameServer({NAME: (PROOF,)}, cuts=True) as server:
        assert dns_of(server).texts(NAME) == (PROOF,)


@pytest.mark.parametrize("way", ["another id", "another question", "a failure", "no DNS", "silence"])
def test_what_is_no_answer_is_not_believed_and_the_next_resolver_is_asked(way: str) -> None:
    with NameServer({NAME: ("forged",)}, way=way) as bad, NameServer({NAME: (PROOF,)}) as good:
        assert dns_of(bad, good).texts(NAME) == (PROOF,)


def test_when_nobody_answers_it_is_said_so() -> None:
    with NameServer({}, way="silence") as server, pytest.raises(Unavailable):
        Dns((server.address,), CountingEntropy(), timeout_s=0.05).texts(NAME)


def test_resolvers_are_named_by_address_and_port() -> None:
    assert servers_of("") == ()
    assert servers_of("10.0.0.1, [::1]:5353,::1,10.0.0.2:54") == (
        ("10.0.0.1", 53), ("::1", 5353), ("::1", 53), ("10.0.0.2", 54),
    )  # fmt: skip
    with pytest.raises(Invalid, match="MILLRACE_DNS_SERVERS"):
        servers_of("dns.example")
