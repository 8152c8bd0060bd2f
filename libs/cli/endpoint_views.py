"""Endpoints as people read them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Final

from rich.table import Table

from libs.cli.client import Json
from libs.cli.forecasts import now_of, ready_after, ready_in
from libs.cli.output import card, table
from libs.cli.quotas import limits_text
from libs.common.units import SECOND_MS

# What a change means for what runs.
CHANGES: Final = {
    "none": "nothing: it is so already",
    "in_place": "in place: nothing is restarted",
    "readdress": "published under its other host name; nothing is restarted",
    "roll": "a new runtime is rolled out; what runs serves until it is ready",
    "reload": "adapters are loaded and let go of; nothing is restarted",
    "anew": "everything is made from the start",
    "end": "everything that runs is given back",
}


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
        whole=("id",),
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
            *([("adapters", ", ".join(_adapter(each) for each in spec["adapters"]))] if spec.get("adapters") else []),
            ("where", f"{spec['tier']} in {spec['region']}"),
            (
                "replicas",
                f"{replicas['ready']} of {replicas['desired']} ready"
                f" (min {scaling['min']}, max {scaling['max']}{_sleeps(scaling)})",
            ),
            ("limits", limits_text(spec.get("limits"))),
            *([("host name", spec["hostname"])] if spec.get("hostname") else []),
            ("url", status["url"] or "none; it has one while it is served"),
            ("generation", f"{status['generation']} (answered: {status['observed_generation']})"),
            ("created", endpoint["created_at"]),
            *_ahead(endpoint),
        ]
    )


def _adapter(adapter: Json) -> str:
    return f"{adapter['name']} ({adapter['source']}, rank {adapter['rank']})"


def causes(found: Json, now_ms: int) -> Table | str:
    """Why an endpoint waits, the cause to look at first, with what would help, and when it will be ready."""
    items = found["causes"]
    if not items:
        return f"nothing holds it up: it is {found['stage'].replace('_', ' ')}"
    rows = [
        (place, each["code"].replace("_", " "), _what(each), _who(each["waiting_on"]), _helps(each["offers"]))
        for place, each in enumerate(items, start=1)
    ]
    drawn = table(("", "cause", "what", "who can act", "what would help"), rows, whole=("cause", "who can act"))
    expected = ready_in(found, datetime.fromtimestamp(now_ms / SECOND_MS, UTC))
    if expected:
        drawn.caption, drawn.caption_justify = f"ready in {expected}", "left"
    return drawn


def plan(answer: Json) -> Table:
    """What a change would do."""
    spec, placement = answer["spec"], answer["placement"]
    scaling = spec["scaling"]
    where = f"{placement['tier']} in {placement['region']}, {_count(placement['gpus_per_replica'], 'GPU')} a replica"
    return card(
        [
            ("would", f"{answer['verb']} {answer['name']}"),
            ("change", CHANGES.get(answer["change"], answer["change"])),
            ("model", f"{spec['model']}, run by {placement['template']}"),
            ("where", f"{where}, price class {placement['price_class']}"),
            *_memory(answer),
            (
                "replicas",
                f"{scaling['min']} to {scaling['max']}, {scaling['target_concurrency']} requests each"
                f"{_sleeps(scaling)}",
            ),
            ("holds", _holds(answer)),
            ("generation", answer["generation"]),
            ("stages", ", ".join(each.replace("_", " ") for each in answer["stages"]) or "none: it is done at once"),
            ("ready", _ready(answer)),
        ]
    )


def _sleeps(scaling: Json) -> str:
    """When none runs; nothing of an endpoint that never sleeps."""
    idle_s = scaling.get("idle_to_zero_s")
    return f", none after {idle_s} s without a request" if idle_s else ""


def _memory(answer: Json) -> Iterator[tuple[str, str]]:
    """What a GPU would hold, where that is known: services of before do not say."""
    if found := answer.get("memory"):
        needed, usable = (f"{found[each] / 1024:.1f} GiB" for each in ("needed_mib", "usable_mib"))
        yield "memory", f"{needed} of {usable} of each GPU, for requests of up to {found['longest_tokens']} tokens"


def _ready(answer: Json) -> str:
    likely_s, most_s = answer["ready_in_s_p50"], answer["ready_in_s_p90"]
    if answer["stages"] and answer["stages"][-1] != "ready":
        return "no: it comes to rest"
    if likely_s is None or most_s is None:
        return "nobody knows when: too few of the like were seen"
    if not answer["stages"]:
        return "as it is now"
    return f"in {ready_after(round(likely_s * SECOND_MS), round(most_s * SECOND_MS))}"


def _ahead(endpoint: Json) -> Iterator[tuple[str, str]]:
    """When it will be ready, and the first thing that holds it up; nothing while it serves or rests."""
    status = endpoint["status"]
    if expected := ready_in(status, now_of(endpoint)):
        yield "ready in", expected
    if status["causes"]:
        first = status["causes"][0]
        yield ("now" if first["code"] == "working" else "held up by"), _what(first)
        if first["offers"]:
            yield "would help", _helps(first["offers"])


def _what(cause: Json) -> str:
    return str(cause["message"] or cause["reason"])


def _who(waiting_on: str) -> str:
    return {"operator": "the operator", "you": "you"}.get(waiting_on, waiting_on)


def _helps(offers: list[Json]) -> str:
    return "\n".join(offer["message"] for offer in offers)


def _holds(answer: Json) -> str:
    before, after = _holding(answer["held_before"]), _holding(answer["held_after"])
    return after if after == before else f"{after}; now {before}"


def _holding(held: Json) -> str:
    if not held["endpoints"]:
        return "nothing"
    return f"{_count(held['replicas'], 'replica')} and {_count(held['gpus'], 'GPU')} of the quota"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
