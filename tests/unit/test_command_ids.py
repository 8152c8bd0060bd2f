"""A command's id may become a subject's last token, so it must be one: a subject that can't be sent stops a relay."""

from __future__ import annotations

import pytest

from libs.common.errors import Invalid
from libs.common.events.command import CreateEndpoint, ResumeEndpoint, headers_of, received

RESUME = ResumeEndpoint(tenant_id="acme", project_id="main", actor="jane", endpoint="chat")


def _headers(id: str) -> dict[str, str]:
    return headers_of(RESUME, id, time="2026-11-23T21:00:00Z", source="/frontend")


@pytest.mark.parametrize("id", ["a b", "x.>", "*", "a.b", "é", "a\r\nb", "a\n", "", "q" * 101])
def test_a_command_whose_id_is_no_token_of_a_subject_is_refused(id: str) -> None:
    with pytest.raises(Invalid, match="needs a CloudEvents 'id'"):
        received(_headers(id), RESUME.model_dump_json().encode(), tenant_in_subject="acme")


@pytest.mark.parametrize("id", ["c1", "018f6f1e-9c3a-7d52-b1a4-0c1d2e3f4a5b", "Q_" * 50])
def test_a_command_whose_id_is_a_token_is_read(id: str) -> None:
    found = received(_headers(id), RESUME.model_dump_json().encode(), tenant_in_subject="acme")
    assert (found.id, found.data) == (id, RESUME)


def test_an_id_is_looked_at_before_the_fields_so_that_no_answer_is_told_about_a_bad_one() -> None:
    wrong = b'{"tenant_id": "acme", "project_id": "main"}'
    headers = {**_headers("a b"), "ce-type": f"{CreateEndpoint.kind}.v1"}
    with pytest.raises(Invalid, match="needs a CloudEvents 'id'"):
        received(headers, wrong, tenant_in_subject="acme")
