"""`millrace demo`: the whole product once, from a customer's command to the bill and back to nothing.

Nothing in it is made up: it uses the public APIs as anybody would, and exits with 1 if what it shows is not so.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from contextlib import aclosing
from typing import Any, Final

import httpx

from libs.cli import caches, local, stages
from libs.cli.client import Client, Credentials, Refused
from libs.cli.output import console, table
from libs.cli.profile import Home, LocalSettings, database_url
from libs.cli.usage_tables import usage_table
from libs.client.endpoints import POLL_S
from libs.common import keys
from libs.common.bus.tail import Stored, tail
from libs.common.errors import MillraceError
from libs.common.events.event import Owner
from libs.common.ids import SystemEntropy

NAME: Final = "demo"
SPEC: Final = {
    "model": "millrace/ngram-1",
    "tier": "h100-dedicated",
    "region": "eu-1",
    "scaling": {"min": 1, "max": 2, "target_concurrency": 8},
}
PROMPT: Final = "Tell me what a millrace is for."
MAX_TOKENS: Final = 48
REPLICAS: Final = 2
WAIT_S: Final = 120.0
SETTLE_S: Final = 1.0
USAGE: Final = "mr.v1.evt.metering.usage-recorded.>"


def run(home: Home, settings: LocalSettings) -> None:
    """Show everything, then stop what was started. Raises MillraceError at the first thing that is not as said."""
    was_up = local.is_up(home)
    _say("Starting everything on this machine")
    local.up(home, settings, progress=lambda line: console.print(f"[green]✓[/] {line}"))
    try:
        _show(home, settings)
    finally:
        if not was_up:
            _say("Stopping everything")
            local.down(home)
            console.print("[green]✓[/] stopped")


def _show(home: Home, settings: LocalSettings) -> None:
    credentials = Credentials.read(home)
    client = Client(credentials)
    _say(f"A customer asks for an endpoint: {SPEC['model']} on {SPEC['tier']} in {SPEC['region']}")
    accepted = client.api.endpoints.create(NAME, SPEC)
    console.print(f"accepted as operation {accepted['id']}")
    endpoint = stages.watch(client.api, NAME, until=frozenset({"ready", "failed"}), timeout_s=WAIT_S)
    _require(endpoint["status"]["stage"] == "ready", f"the endpoint is {endpoint['status']['stage']}")

    _second_replica(home, settings, client, endpoint["id"])
    answered = _chat(client)
    _wrong_key(client)
    _bill(client, credentials, endpoint["id"], answered)

    _say("The customer deletes the endpoint")
    client.api.endpoints.delete(endpoint["id"])
    stages.watch(client.api, endpoint["id"], until=frozenset({"deleted"}), timeout_s=WAIT_S)
    _nothing_left(home, client, endpoint["id"])


def _second_replica(home: Home, settings: LocalSettings, client: Client, endpoint_id: str) -> None:
    """Its node has the model by now; what the cache says of itself is what the fetches there listed."""
    _say("Load is expected: a second replica, beside the first, has its model from the node's cache")
    client.api.endpoints.scale(NAME, {"min": REPLICAS})
    with console.status("waiting for the second replica"):
        _wait_for_replicas(client)
    env = {**os.environ, "MILLRACE_DATABASE_URL": database_url(home, settings, Owner.RUNTIME_DEPLOYER)}
    found = [each for each in caches.told(env)["caches"] if endpoint_id in str(each)]
    console.print(caches.places(found))
    console.print("", caches.models(found), sep="\n")
    hits = [(each["misses"], each["hits"]) for each in found]
    _require(hits == [(1, 1)], f"one download and one hit were to be seen, not {hits}")


def _wait_for_replicas(client: Client) -> None:
    deadline_s = time.monotonic() + WAIT_S
    while client.api.endpoints.get(NAME)["status"]["replicas"]["ready"] < REPLICAS:
        _require(time.monotonic() < deadline_s, f"{REPLICAS} replicas are not ready after {WAIT_S:.0f} s")
        time.sleep(POLL_S)


def _chat(client: Client) -> int:
    _say(f"A client asks the model: {PROMPT}")
    usage: dict[str, Any] = {}
    for chunk in client.chat(model=NAME, prompt=PROMPT, max_tokens=MAX_TOKENS):
        usage = chunk.get("usage") or usage
        for choice in chunk["choices"]:
            console.out(choice["delta"].get("content") or "", end="", highlight=False)
    console.print(f"\n\n[dim]{usage['prompt_tokens']} prompt tokens, {usage['completion_tokens']} answer tokens[/]")
    _require(usage["completion_tokens"] > 0, "the model said nothing")
    return int(usage["completion_tokens"])


def _wrong_key(client: Client) -> None:
    _say("Somebody tries a well-formed key that does not exist")
    try:
        list(client.chat(model=NAME, prompt=PROMPT, max_tokens=1, key=keys.mint(SystemEntropy()).plaintext))
    except Refused as refusal:
        console.print(f"[green]✓[/] refused: {refusal}")
        _require(refusal.status == httpx.codes.UNAUTHORIZED, f"refused with {refusal.status}, not with 401")
        return
    raise MillraceError("a wrong key was served")


def _bill(client: Client, credentials: Credentials, endpoint_id: str, answered: int) -> None:
    _say("The bill: usage events for the billing system, then the ledger that they come from")
    events = _billing_events(credentials, endpoint_id)
    console.print(
        table(
            ("usage event", "meter", "account", "quantity", "window (UTC)", "revision"),
            [
                (
                    each["type"],
                    each["data"]["meter"],
                    each["data"]["account"],
                    each["data"]["quantity"],
                    f"{_clock(each['data']['window_start_ms'])} to {_clock(each['data']['window_end_ms'])}",
                    each["data"]["revision"],
                )
                for each in events
            ],
        )
    )
    found = client.usage("/v1/usage", query={"endpoint": endpoint_id})
    console.print()
    console.print(usage_table(found))
    billed = sum(each["quantity"] for each in found["items"] if each["meter"] == "completion_tokens")
    _require(billed == answered, f"{answered} tokens were answered but {billed} are in the ledger")
    console.print(f"[green]✓[/] {answered} tokens answered, {billed} tokens in the ledger")


def _billing_events(credentials: Credentials, endpoint_id: str) -> list[dict[str, Any]]:
    """The usage events of the endpoint, once its tokens are among them: a window must close first."""
    with console.status("waiting for the billing window to close"):
        try:
            return asyncio.run(_recorded(credentials.nats_url, endpoint_id))
        except TimeoutError:
            raise MillraceError(f"no usage event for the answer within {WAIT_S:.0f} s") from None


async def _recorded(url: str, endpoint_id: str) -> list[dict[str, Any]]:
    reading = tail(url, stream="MR_EVT", subject=USAGE, follow=True)
    async with asyncio.timeout(WAIT_S), aclosing(reading):
        async for each in reading:
            data = _event(each)["data"]
            if data["endpoint_id"] == endpoint_id and data["meter"] == "completion_tokens":
                break
    await asyncio.sleep(SETTLE_S)  # The meters of one window are told one after the other.
    found = [_event(each) async for each in tail(url, stream="MR_EVT", subject=USAGE)]
    return [each for each in found if each["data"]["endpoint_id"] == endpoint_id]


def _event(stored: Stored) -> dict[str, Any]:
    return {"type": stored.message.headers["ce-type"], "data": json.loads(stored.message.body)}


def _clock(at_ms: int) -> str:
    return time.strftime("%H:%M:%S", time.gmtime(at_ms / 1000))


def _nothing_left(home: Home, client: Client, endpoint_id: str) -> None:
    _say("What is left of it")
    found = json.loads(home.credentials.read_text())
    key = home.twin_key.read_text().strip()
    answer = httpx.get(f"{found['twin_url']}/twin/v1/inventory", headers={"authorization": f"Bearer {key}"}, timeout=10)
    inventory = answer.raise_for_status().json()
    kinds = ("clusters", "claims", "nodes", "pods", "processes")
    # Only this endpoint's: the profile may have been running before, with others in it.
    left = {kind: sum(endpoint_id in json.dumps(each) for each in inventory[kind]) for kind in kinds}
    left["routes"] = client.models().count(NAME)
    console.print(table(("kind", "left"), list(left.items())))
    _require(not any(left.values()), f"something is left: {left}")


def _say(what: str) -> None:
    console.print()
    console.rule(f"[bold]{what}[/]", align="left", style="dim")


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise MillraceError(otherwise)
