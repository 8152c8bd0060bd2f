"""What earlier builds told is understood by this one: all is read, none is parked, stages come out as they did.

`python -m tests.contract.record <release>` makes a recording of the build at hand; see docs/contract.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from libs.common.bus.memory import matches
from libs.common.bus.port import Ack, Delivery, Message
from libs.common.bus.streams import Consumer, consumers_of
from libs.common.events.catalog import EVENTS
from libs.common.events.endpoint import (
    EndpointDeletionRequested,
    EndpointPauseRequested,
    EndpointRequested,
    EndpointStageChanged,
)
from libs.common.events.envelope import Envelope, from_wire, to_body, to_headers
from libs.common.events.event import Owner
from libs.common.service import Service
from services.endpoint_api.core.commands import (
    Command,
    CreateEndpoint,
    DeleteEndpoint,
    PauseEndpoint,
    ResumeEndpoint,
    command_envelope,
)
from tests.contract.record import RECORDED, read
from tests.sim.faults import Faults
from tests.sim.world import Simulation

RECORDINGS: Final = sorted(RECORDED.rglob("*.jsonl"))


def name_of(path: Path) -> str:
    return str(path.relative_to(RECORDED).with_suffix(""))


@pytest.fixture
def provider() -> dict[Owner, Service]:
    """The six services of this build, with empty stores."""
    simulation = Simulation(0)
    simulation.faults = Faults.none()
    return {owner: host.service for owner, host in simulation.hosts.items()}


def heard(consumer: Consumer, message: Message) -> bool:
    return consumer.stream == message.stream and any(
        matches(each, message.subject) for each in consumer.filter_subjects
    )


def ask_again(api: Service, told: Envelope) -> None:
    """What a tenant must have asked for, because endpoint-api told this: commands are not on the bus."""
    command: Command
    match told.data:
        case EndpointRequested() as asked if told.generation == 1:
            wish = asked.model_dump(include={"tenant_id", "project_id", "name", "spec", "placement"})
            command = CreateEndpoint(**wish, request_digest="recorded", endpoints_max=100, actor="key:recorded")
        case EndpointRequested():  # No story changes a spec, so a later generation is a resume.
            command = ResumeEndpoint(actor="key:recorded")
        case EndpointPauseRequested() as asked_to_pause:
            deadline_ms = asked_to_pause.drain_deadline_ms
            command = PauseEndpoint(verb="pause", drain_deadline_ms=deadline_ms, actor="key:recorded")
        case EndpointDeletionRequested():
            command = DeleteEndpoint(actor="key:recorded")
        case _:
            return
    api.runner("endpoint").take(told.subject, command_envelope(told.subject, command, told.time_ms))


def replay(messages: list[Message], provider: Mapping[Owner, Service]) -> list[str]:
    """Bring every message to whoever hears it; what was not taken in, and why."""
    refused = []
    for message in messages:
        ask_again(provider[Owner.ENDPOINT_API], from_wire(message.headers, message.body))
        for owner, service in provider.items():
            for consumer in consumers_of(owner):
                answer = service.deliver(Delivery(message, consumer.name)) if heard(consumer, message) else Ack()
                if not isinstance(answer, Ack):
                    refused.append(f"{consumer.name}: {message.headers['ce-type']}: {answer}")
    return refused


def stages_of(messages: list[Message]) -> dict[str, str]:
    """The stage in which each endpoint was told to be last."""
    told = [from_wire(each.headers, each.body) for each in messages if "stage-changed" in each.subject]
    return {each.subject: each.data.stage for each in told if isinstance(each.data, EndpointStageChanged)}


@pytest.mark.parametrize("recording", RECORDINGS, ids=name_of)
def test_every_recorded_message_is_read_and_nothing_of_it_is_lost(recording: Path) -> None:
    for message in read(recording):
        envelope = from_wire(message.headers, message.body)

        again = from_wire(to_headers(envelope), to_body(envelope))
        assert again == envelope
        assert envelope.id == message.id


@pytest.mark.parametrize("recording", RECORDINGS, ids=name_of)
def test_a_recording_replays_to_the_stages_that_were_recorded(
    recording: Path, provider: Mapping[Owner, Service]
) -> None:
    messages = list(read(recording))

    assert replay(messages, provider) == []
    endpoints = provider[Owner.ENDPOINT_API].runner("endpoint")
    found = {each.id: each.stage for each in endpoints.every()}
    assert found == stages_of(messages)
    assert found


@pytest.mark.parametrize("recording", RECORDINGS, ids=name_of)
def test_a_recording_replays_to_each_stage_on_the_way(recording: Path, provider: Mapping[Owner, Service]) -> None:
    """Cut off behind any told stage, the endpoint stands in it, or further on in what the next stages say."""
    messages = list(read(recording))
    told = [from_wire(each.headers, each.body).data for each in messages if "stage-changed" in each.subject]
    walk = [each.stage for each in told if isinstance(each, EndpointStageChanged)]
    endpoints = provider[Owner.ENDPOINT_API].runner("endpoint")

    met = []
    for message in messages:
        replay([message], provider)
        met += [each.stage for each in endpoints.every()]

    assert set(walk) - {"requested"} <= set(met)


def test_every_published_version_is_in_a_recording() -> None:
    recorded = {message.headers["ce-type"] for each in RECORDINGS for message in read(each)}

    assert set(EVENTS) - recorded == set(), "a new event needs a story: see stories.py"


def test_a_message_that_no_build_ever_told_is_noticed(provider: Mapping[Owner, Service]) -> None:
    messages = list(read(RECORDINGS[0]))
    spoiled = [
        Message(each.id, each.stream, each.subject, b"{}", each.headers) if "requested" in each.subject else each
        for each in messages
    ]

    with pytest.raises(Exception, match=r"endpoint\.requested\.v1 has wrong data"):
        replay(spoiled, provider)
