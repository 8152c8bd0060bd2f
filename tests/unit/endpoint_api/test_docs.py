"""The contract as served: pages that stand alone, documents that are those of the build."""

from __future__ import annotations

import re
from typing import Final

import pytest
import yaml
from openapi_spec_validator import validate

from libs.common.events.catalog import EVENTS
from libs.common.schemas import asyncapi
from services.endpoint_api.shell.openapi import document
from services.endpoint_api.shell.pages.markup import Markup, inline, tag
from tests.unit.endpoint_api.given import Stand

PAGES: Final = ("/docs", "/docs/events")


def test_the_openapi_document_is_valid_and_served_to_everybody() -> None:
    served = Stand().client.get("/openapi.json").json()

    validate(served)
    assert served == document()
    assert served["openapi"].startswith("3.1")


def test_every_operation_has_a_name_of_its_own_a_meaning_and_problems_as_they_are_sent() -> None:
    found = [each for item in document()["paths"].values() for each in item.values()]

    names = [each["operationId"] for each in found]
    assert len(set(names)) == len(names)
    assert all(each["summary"] for each in found)
    refusals = [answer for each in found for code, answer in each["responses"].items() if int(code) >= 400]
    assert {media for each in refusals for media in each["content"]} == {"application/problem+json"}


def test_the_asyncapi_document_is_served_to_everybody() -> None:
    answer = Stand().client.get("/asyncapi.yaml")

    assert yaml.load(answer.text, Loader=yaml.CSafeLoader) == asyncapi.document()


@pytest.mark.parametrize("path", PAGES)
def test_a_page_loads_nothing_runs_nothing_and_says_so(path: str) -> None:
    answer = Stand().client.get(path)

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert not re.search(r"<script|<img|<link|<iframe|\bon\w+=|\bsrc=|style=|url\(|@import|href=\"[^/#]", answer.text)


@pytest.mark.parametrize("path", PAGES)
def test_every_link_of_a_page_leads_somewhere(path: str) -> None:
    client = Stand().client
    text = client.get(path).text
    ids = re.findall(r'id="([^"]+)"', text)

    links = re.findall(r'href="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    assert {each[1:] for each in links if each.startswith("#")} <= set(ids)
    assert all(client.get(each).status_code == 200 for each in links if each.startswith("/"))


def test_every_operation_and_every_event_is_on_its_page() -> None:
    client = Stand().client
    http, bus = (client.get(each).text for each in PAGES)

    assert all(f"<code>{path}</code>" in http for path in document()["paths"])
    assert all(f">{name}<" in bus for name in EVENTS)


def test_text_of_a_document_is_never_markup() -> None:
    said = "<script>alert(1)</script> `<b>`"

    assert inline(said) == Markup("&lt;script&gt;alert(1)&lt;/script&gt; <code>&lt;b&gt;</code>")
    assert tag("a", said, href='"><x').text.startswith('<a href="&quot;&gt;&lt;x">&lt;script')
