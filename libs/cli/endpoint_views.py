"""Endpoints as people read them."""

from __future__ import annotations

from rich.table import Table

from libs.cli.client import Json
from libs.cli.output import card, duration, table


def listing(endpoints: list[Json]) -> Table:
    """A table of endpoints."""
    return table(
        ("name", "id", "stage", "ready", "model", "tier", "region"),
        [
            (
                each["name"],
                each["id"],
                each["status"]["stage"].replace("_", " "),
                f"{each['status']['replicas']['ready']}/{each['status']['replicas']['desired']}",
                each["spec"]["model"],
                each["spec"]["tier"],
                each["spec"]["region"],
            )
            for each in endpoints
        ],
        whole=("id", "ready", "model", "tier", "region"),
    )


def describe(endpoint: Json) -> Table:
    """One endpoint, a line for each thing to know of it."""
    spec, status = endpoint["spec"], endpoint["status"]
    scaling, replicas = spec["scaling"], status["replicas"]
    return card(
        [
            ("name", endpoint["name"]),
            ("id", endpoint["id"]),
            ("model", f"{spec['model']} ({status['model_state']})"),
            ("where", f"{spec['tier']} in {spec['region']}"),
            (
                "replicas",
                f"{replicas['ready']} of {replicas['desired']} ready (min {scaling['min']}, max {scaling['max']})",
            ),
            ("url", status["url"] or "none; it has one while it is served"),
            ("generation", f"{status['generation']} (answered: {status['observed_generation']})"),
            ("created", endpoint["created_at"]),
        ]
    )


def causes(found: Json) -> Table | str:
    """Why an endpoint waits, the likeliest first, with what would help."""
    items = found["causes"]
    if not items:
        return "nothing holds it up"
    rows = [
        (place, each["code"], each["message"], "\n".join(offer["message"] for offer in each["offers"]))
        for place, each in enumerate(items, start=1)
    ]
    return table(("", "cause", "what", "what would help"), rows, whole=("cause",))


def plan(answer: Json) -> Table:
    """What a change would do."""
    return card([(name.replace("_", " "), _words(name, value)) for name, value in answer.items() if value is not None])


def _words(name: str, value: object) -> str:
    if isinstance(value, list):
        return ", ".join(str(each).replace("_", " ") for each in value)
    if isinstance(value, int) and name.endswith("_s"):
        return duration(value * 1000)
    return str(value)
