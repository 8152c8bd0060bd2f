"""The HTTP API as a page."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from libs.common.schemas.openapi import operations
from services.endpoint_api.shell.pages.fields import kind_of, table
from services.endpoint_api.shell.pages.markup import Markup, anchor, inline, joined, page, prose, tag

Json = dict[str, Any]


def openapi_page(document: Json) -> str:
    """The whole page."""
    groups: dict[str, list[tuple[str, str, Json]]] = {}
    for path, method, operation in operations(document):
        groups.setdefault((operation.get("tags") or ["others"])[0], []).append((path, method, operation))
    main = joined(
        (
            tag("h1", document["info"]["title"]),
            prose(document["info"].get("description", "")),
            tag("p", "As a document: ", _link("/openapi.json"), " · Over the bus: ", _link("/docs/events")),
            *(_group(name, found, document) for name, found in groups.items()),
        )
    )
    return page(f"{document['info']['title']} · HTTP API", joined(_nav(*each) for each in groups.items()), main)


def _nav(name: str, found: list[tuple[str, str, Json]]) -> Markup:
    links = (
        tag(
            "li",
            tag("a", tag("span", f"{method.upper()} ", class_=method), path, href=f"#{anchor(f'{method} {path}')}"),
        )
        for path, method, _ in found
    )
    return joined((tag("h2", name), tag("ul", *links)))


def _group(name: str, found: list[tuple[str, str, Json]], document: Json) -> Markup:
    return joined((tag("h2", name.capitalize(), id=anchor(name)), *(_operation(*each, document) for each in found)))


def _operation(path: str, method: str, operation: Json, document: Json) -> Markup:
    head = tag(
        "div",
        tag("span", method.upper(), class_=f"method {method}"),
        tag("h3", tag("code", path)),
        tag("span", operation["operationId"], class_="soft"),
        class_="head",
    )
    parts = (
        head,
        prose(operation.get("description") or operation.get("summary", "")),
        None if operation.get("security") else tag("p", "No key is needed.", class_="soft"),
        _parameters(operation.get("parameters", []), document),
        _body(operation.get("requestBody"), document),
        *(_answer(code, each, document) for code, each in operation["responses"].items() if int(code) < 400),
        _refusals(operation["responses"]),
    )
    return tag("section", *parts, class_="item", id=anchor(f"{method} {path}"))


def _parameters(parameters: list[Json], document: Json) -> Markup | None:
    if not parameters:
        return None
    schema = {
        "properties": {
            f"{each['name']}": {**each["schema"], "description": f"In {each['in']}. {each.get('description', '')}"}
            for each in parameters
        },
        "required": [each["name"] for each in parameters if each.get("required")],
    }
    return joined((tag("h4", "Parameters"), table(schema, document)))


def _body(body: Json | None, document: Json) -> Markup | None:
    if body is None:
        return None
    contents = (
        joined((tag("h4", f"Body: {media}"), table(each["schema"], document)))
        for media, each in body["content"].items()
    )
    return joined(contents)


def _answer(code: str, answer: Json, document: Json) -> Markup:
    words = f"{code} {HTTPStatus(int(code)).phrase}"
    headers = [
        tag("p", tag("code", name), " ", inline(each.get("description", "")))
        for name, each in answer.get("headers", {}).items()
    ]
    contents = [
        tag("details", tag("summary", f"{words}: {media}, {kind_of(each.get('schema', {}), document)}"), *headers,
            table(each.get("schema", {}), document))
        for media, each in answer.get("content", {}).items()
    ]  # fmt: skip
    return joined(contents or [tag("p", words)])


def _refusals(answers: Json) -> Markup | None:
    found = [f"{code} {HTTPStatus(int(code)).phrase}" for code in answers if int(code) >= 400]
    chips = joined(tag("span", each, class_="chip") for each in found)
    return joined((tag("h4", "Refusals, each a problem"), chips)) if found else None


def _link(path: str) -> Markup:
    return tag("a", path, href=path)
