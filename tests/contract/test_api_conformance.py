"""Both doors keep the same promises: one list of cases, over HTTP and over the bus, and the same answers."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

import pytest

from libs.common.bus.port import Ack, Dead, Retry
from libs.common.events import command as cmd
from services.endpoint_api.core.caller import Ask
from services.endpoint_api.shell.doors.answer import Answer
from services.endpoint_api.shell.doors.once import Once, Turn
from tests.contract.api_case import BOTH, Case, Door, Given, Send
from tests.contract.api_cases import CASES
from tests.unit.endpoint_api.frontend import WHOSE, Frontend, raw
from tests.unit.endpoint_api.given import PROGRESS, SPEC, TEARDOWN, Stand, a_caller

EFFECTS: Final = frozenset(
    {"endpoint.requested", "endpoint.pause_requested", "endpoint.deletion_requested", "key.created", "key.revoked"}
)


@dataclass(frozen=True, slots=True)
class Said:
    """An answer: None of a command that was parked or cut short."""

    status: int
    code: str
    body: Mapping[str, Any]


NOBODY: Final = Said(0, "", {})


class Asked(Protocol):
    """A door."""

    def __call__(self, send: Send, data: Mapping[str, Any]) -> Said:
        """The answer to a command with these data."""


class Mortal(Once):
    """Dies between effect and answer while ``dying``."""

    dying = False

    def answer(self, turn: Turn, answer: Answer, *, told: Any = None) -> Answer:
        """Remember it, if it lives."""
        if self.dying:
            raise ConnectionAbortedError("killed")
        return super().answer(turn, answer, told=told)


@dataclass(slots=True)
class World:
    """A stand with what is given, and what a case's `{names}` stand for."""

    stand: Stand
    names: dict[str, str] = field(default_factory=dict)
    told: int = 0

    def prepare(self, given: Given) -> None:
        """Have it there, made by nobody that a case knows."""
        match given:
            case Given.NOTHING:
                pass
            case Given.SUSPENDED:
                operator = Ask(a_caller(scopes=frozenset({"operate"})), "given")
                self.stand.api.tenants.change(operator, "acme", suspended=True)
            case Given.KEY:
                self.names["key"] = self.stand.api.keys.create(self._ask("key"), name="ci", scopes=["read"]).key.id
            case Given.FOREIGN:
                self._create(tenant="spy")
            case _:
                self._chat(given)
        self.told = len(self.stand.store.outbox)

    def _chat(self, given: Given) -> None:
        endpoint_id = self._create()
        if given not in (Given.REQUESTED, Given.FULL):
            self.stand.hear(endpoint_id, PROGRESS)
        if given is Given.PAUSED:
            self._note(self.stand.api.endpoints.pause(self._ask("pause"), "chat"))
            self.stand.hear(endpoint_id, TEARDOWN, generation=2)
        if given in (Given.ROLLING, Given.HELD):
            changes = {"model": "millrace/ngram-1-large"}
            self._note(self.stand.api.endpoints.update(self._ask("update"), "chat", changes=changes))
        if given is Given.HELD:
            self.stand.api.operations.hold(self._ask("hold"), self.names["operation"], holds=True)
        if given is Given.DELETING:
            self._note(self.stand.api.endpoints.delete(self._ask("delete"), "chat"))

    def _create(self, tenant: str = "acme") -> str:
        made = self.stand.api.endpoints.create(self._ask("create", tenant), name="chat", spec=SPEC)
        self._note(made)
        return str(made.model_dump()["endpoint_id"])

    def _note(self, made: Any) -> None:
        self.names["operation"] = made.id

    @staticmethod
    def _ask(verb: str, tenant: str = "acme") -> Ask:
        return Ask(a_caller(tenant), f"given-{verb}")

    def filled(self, data: Mapping[str, Any]) -> dict[str, Any]:
        """The data of a command, with names filled in."""
        return {name: value.format_map(self.names) if isinstance(value, str) else value for name, value in data.items()}

    def effects(self) -> tuple[str, ...]:
        """The wishes that were told since."""
        told = [
            each.headers["ce-type"].rpartition(".v")[0]
            for each in list(self.stand.store.outbox.values())[self.told :]
            if "ce-type" in each.headers
        ]
        return tuple(each for each in told if each in EFFECTS)


HTTP: Final[Mapping[type[cmd.Command], tuple[str, str]]] = {
    cmd.CreateEndpoint: ("POST", "/v1/endpoints"),
    cmd.UpdateEndpoint: ("PATCH", "/v1/endpoints/{endpoint}"),
    cmd.ScaleEndpoint: ("POST", "/v1/endpoints/{endpoint}/scale"),
    cmd.PauseEndpoint: ("POST", "/v1/endpoints/{endpoint}/pause"),
    cmd.DrainEndpoint: ("POST", "/v1/endpoints/{endpoint}/drain"),
    cmd.ResumeEndpoint: ("POST", "/v1/endpoints/{endpoint}/resume"),
    cmd.DeleteEndpoint: ("DELETE", "/v1/endpoints/{endpoint}"),
    cmd.CancelOperation: ("POST", "/v1/operations/{operation}/cancel"),
    cmd.PauseOperation: ("POST", "/v1/operations/{operation}/pause"),
    cmd.ResumeOperation: ("POST", "/v1/operations/{operation}/resume"),
    cmd.RevokeKey: ("DELETE", "/v1/keys/{key}"),
}


def over_http(world: World, case: Case) -> Asked:
    """The door over HTTP: what names the thing is in the path, the rest in the body, or of a DELETE in the query."""
    headers = {"authorization": f"Bearer {world.stand.a_key(scopes=case.scopes)}"}
    world.told = len(world.stand.store.outbox)

    def asked(send: Send, data: Mapping[str, Any]) -> Said:
        method, path = HTTP[send.kind]
        rest = {name: value for name, value in data.items() if f"{{{name}}}" not in path}
        query = {"dry_run": "true"} if send.dry_run else {}
        content = None
        if method == "DELETE":
            query |= {name: str(value) for name, value in rest.items()}
        elif rest or send.raw or send.kind is cmd.DrainEndpoint:
            content = send.raw or json.dumps(rest).encode()
        response = world.stand.client.request(
            method,
            path.format_map(data),
            params=query,
            content=content,
            headers={
                **headers,
                "idempotency-key": send.id,
                **({"content-type": "application/json"} if content else {}),
                **({"if-match": send.if_match} if send.if_match else {}),
            },
        )
        if send.crash:
            return NOBODY
        body = response.json()
        assert body.get("status") == response.status_code or response.is_success
        return Said(response.status_code, "" if response.is_success else body["code"], body)

    return asked


def over_bus(world: World, _case: Case) -> Asked:
    """The door on the bus, with the very bytes of the wire."""
    frontend = Frontend(world.stand)
    world.told = len(world.stand.store.outbox)
    heard: dict[tuple[str, str], Said] = {}

    def asked(send: Send, data: Mapping[str, Any]) -> Said:
        more: dict[str, Any] = {"if_match": send.if_match} if send.if_match else {}
        more |= {"dry_run": True} if send.dry_run else {}
        whole = {**WHOSE, **data, **more}
        content = send.raw or json.dumps(whole).encode()
        before = len(frontend.answers(send.id))
        became = frontend.deliver(raw(send.kind, send.id, content, tenant=whole["tenant_id"]))
        new = frontend.answers(send.id)[before:]
        if send.crash:
            assert isinstance(became, Retry)
            return NOBODY
        if isinstance(became, Dead):
            return Said(0, became.reason.partition(":")[0], {})
        if isinstance(became, Retry):  # Tried again by itself: over HTTP the client is told to.
            return Said(409, "request_in_progress", {})
        assert became == Ack()
        asked_before = (send.id, json.dumps([send.kind.kind, whole], sort_keys=True))
        if asked_before in heard:
            assert new == [], "a repeat is told nothing new"
            return heard[asked_before]
        if len(new) != 1:
            return NOBODY
        told = new[0]
        said = Said(told.status, "" if told.status < 400 else str(told.body["code"]), told.body)
        heard[asked_before] = said
        return said

    return asked


DOORS: Final[Mapping[Door, Callable[[World, Case], Asked]]] = {Door.HTTP: over_http, Door.BUS: over_bus}


def played(case: Case, door: Door, *, once: type[Mortal] = Mortal) -> tuple[list[Said], tuple[str, ...]]:
    """What each command of a case is answered with through a door, and what came of it."""
    world = World(Stand(endpoints_max=1 if case.given is Given.FULL else 20))
    world.stand.a_key()
    mortal = once(world.stand.service.runner("request"), world.stand.clock, world.stand.entropy)
    world.stand.api.once = mortal
    world.prepare(case.given)
    asked = DOORS[door](world, case)
    said: list[Said] = []
    for send in case.sends:
        world.stand.clock.advance(send.later_ms)
        mortal.dying = send.crash
        said.append(asked(send, world.filled(send.data)))
    return said, world.effects()


def shape(value: object) -> object:
    """Names and types, all the way down."""
    if isinstance(value, Mapping):
        return {name: shape(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [shape(each) for each in value]
    return type(value).__name__


@pytest.mark.parametrize(
    ("case", "door"),
    [pytest.param(case, door, id=f"{door}: {case.name}") for case in CASES for door in sorted(case.doors)],
)
def test_what_is_promised_is_kept(case: Case, door: Door) -> None:
    said, effects = played(case, door)

    for send, each in zip(case.sends, said, strict=True):
        if send.crash:
            continue
        assert (each.status, each.code) == (send.status, send.code), each.body
        assert {name: each.body[name] for name, _ in send.says} == dict(send.says)
        if send.fields:
            assert tuple(wrong["field"] for wrong in each.body["errors"]) == send.fields
    assert effects == case.effects


@pytest.mark.parametrize("case", [each for each in CASES if each.doors == BOTH], ids=lambda case: case.name)
def test_both_doors_answer_alike(case: Case) -> None:
    (http, http_effects), (bus, bus_effects) = played(case, Door.HTTP), played(case, Door.BUS)

    assert [(each.status, each.code) for each in http] == [(each.status, each.code) for each in bus]
    assert http_effects == bus_effects
    for over, other in zip(http, bus, strict=True):
        if other.code != "request_in_progress":
            assert shape(over.body) == shape(other.body)


def test_the_list_has_every_command_accepted_and_refused() -> None:
    accepted = {send.kind for case in CASES for send in case.sends if send.status in (200, 202) and not send.dry_run}
    refused = {send.kind for case in CASES for send in case.sends if send.status >= 400}

    assert accepted == refused == set(cmd.COMMANDS.values())
    assert len({case.name for case in CASES}) == len(CASES)


class Forgetful(Mortal):
    """The planted fault: it remembers nothing."""

    def begin(self, record: str, digest: str) -> Turn | Answer:
        """A turn, always."""
        return Turn(record, digest, self._entropy.token_bytes(8).hex())


@pytest.mark.parametrize("door", Door)
def test_a_door_that_remembers_nothing_is_found(door: Door) -> None:
    case = next(each for each in CASES if each.name == "another body of cmd.endpoint.pause under the same id")

    said, _ = played(case, door, once=Forgetful)

    assert [each.status for each in said] != [send.status for send in case.sends]
