"""The bus as a page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from services.endpoint_api.shell.pages.fields import resolved, table
from services.endpoint_api.shell.pages.markup import Markup, anchor, joined, page, prose, tag

Json = dict[str, Any]


def asyncapi_page(document: Json) -> str:
    """The whole page: one section for each subject, grouped by who tells it."""
    groups: dict[str, list[str]] = {}
    for each in document["operations"].values():
        if each["action"] == "send":
            groups.setdefault(each["tags"][0]["name"], []).append(_channel_of(each))
    headers = document["components"]["messageTraits"]["cloudEvent"]["headers"]
    main = joined(
        (
            tag("h1", document["info"]["title"]),
            prose(document["info"]["description"]),
            tag("p", "As a document: ", _link("/asyncapi.yaml"), " · Over HTTP: ", _link("/docs")),
            tag("h2", "Headers of every message", id="headers"),
            table(headers, document),
            *(_group(name, channels, document) for name, channels in groups.items()),
        )
    )
    nav = joined(_nav(name, channels) for name, channels in groups.items())
    return page(document["info"]["title"], nav, main)


def _channel_of(operation: Json) -> str:
    return str(operation["channel"]["$ref"]).removeprefix("#/channels/")


def _nav(name: str, channels: list[str]) -> Markup:
    links = (tag("li", tag("a", each, href=f"#{anchor(each)}")) for each in channels)
    return joined((tag("h2", name), tag("ul", *links)))


def _group(name: str, channels: list[str], document: Json) -> Markup:
    sections = (_channel(each, document) for each in channels)
    return joined((tag("h2", f"Told by {name}", id=anchor(f"told by {name}")), *sections))


def _channel(name: str, document: Json) -> Markup:
    channel = document["channels"][name]
    hearers = [
        each["tags"][0]["name"]
        for each in document["operations"].values()
        if each["action"] == "receive" and _channel_of(each) == name
    ]
    chips = joined(tag("span", each, class_="chip") for each in hearers)
    parameters = {"properties": {key: {"type": "string", **each} for key, each in channel["parameters"].items()}}
    return tag(
        "section",
        tag("div", tag("h3", name), tag("code", channel["address"], class_="soft"), class_="head"),
        prose(channel["description"]),
        tag("p", "Heard by ", chips) if hearers else None,
        tag("p", f"In stream {channel['x-stream']}, kept for {_span(channel['x-retention-s'])}.", class_="soft"),
        *_messages(channel, document),
        tag("details", tag("summary", "Parts of the subject"), table(parameters, document)),
        class_="item",
        id=anchor(name),
    )


def _messages(channel: Json, document: Json) -> Iterator[Markup]:
    for name, each in channel["messages"].items():
        message = resolved(each, document)
        yield tag("h4", name)
        yield table(message["payload"], document)
        for example in message["examples"]:
            lines = [f"{key}: {value}" for key, value in example["headers"].items()]
            body = json.dumps(example["payload"], indent=2, ensure_ascii=False)
            yield tag("details", tag("summary", "Example"), tag("pre", "\n".join((*lines, "", body))))


def _span(seconds: int) -> str:
    for unit, length_s in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds % length_s == 0:
            return f"{seconds // length_s} {unit}"
    return f"{seconds} seconds"


def _link(path: str) -> Markup:
    return tag("a", path, href=path)
