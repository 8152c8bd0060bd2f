"""Learns how long stages take from our own events, each passage once, wherever a crash falls."""

from __future__ import annotations

from typing import Final

from libs.common.clock import Clock
from libs.common.events.endpoint import EndpointStageChanged
from libs.common.events.envelope import Envelope, from_wire, type_of
from libs.common.ids import event_id
from libs.common.runner import Runner
from libs.common.store.port import Outgoing, Store
from services.endpoint_api.core.eta import TIMED, Durations, Learned, keys_for, passage
from services.endpoint_api.core.follower import Followed, Follower
from services.endpoint_api.core.state import Endpoint

NAME: Final = "durations"
PAGE: Final = 200


class Recall:
    """What was learned. Each record is read once, so make one for each request."""

    def __init__(self, durations: Runner[Durations]) -> None:
        self._durations = durations
        self._read: dict[str, Durations] = {}

    def of(self, endpoint: Endpoint) -> Learned:
        """What holds for an endpoint; nothing is read for one that is not on a way whose time is learned."""
        assert endpoint.spec is not None, endpoint.id
        narrow, wide = keys_for(tier=endpoint.spec.tier, model=endpoint.spec.model)
        size_bytes = endpoint.placement.model_size_bytes if endpoint.placement else 0
        if endpoint.stage not in TIMED:
            return Learned(Durations(narrow), Durations(wide), size_bytes)
        return Learned(self._of(narrow), self._of(wide), size_bytes)

    def _of(self, key: str) -> Durations:
        if key not in self._read:
            self._read[key] = self._durations.state(key) or Durations(key)
        return self._read[key]


class Learner:
    """Follows the outbox; the inbox of each record of durations takes an event once."""

    def __init__(
        self,
        endpoints: Runner[Endpoint],
        durations: Runner[Durations],
        followers: Runner[Follower],
        store: Store,
        clock: Clock,
    ) -> None:
        self._endpoints = endpoints
        self._durations = durations
        self._followers = followers
        self._store = store
        self._clock = clock

    def run(self) -> int:
        """Learn from a page of what was told since; returns how many messages were read."""
        follower = self._followers.state(NAME)
        messages = self._store.told(after=follower.position if follower else 0, limit=PAGE).messages
        for each in messages:
            self._learn(each)
        if messages:
            position = messages[-1].position
            cause = event_id(NAME, f"followed|{position}", 0)
            now_ms = self._clock.now_ms()
            self._followers.take(NAME, Envelope(cause, Followed(position=position), subject=NAME, time_ms=now_ms))
        return len(messages)

    def recall(self) -> Recall:
        """What was learned, for one request."""
        return Recall(self._durations)

    def _learn(self, told: Outgoing) -> None:
        if told.message.headers.get("ce-type") != type_of(EndpointStageChanged):
            return
        envelope = from_wire(told.message.headers, told.message.body)
        assert isinstance(envelope.data, EndpointStageChanged), envelope.type
        endpoint = self._endpoints.state(envelope.subject)
        if endpoint is None or endpoint.spec is None or endpoint.placement is None:
            return  # Only an endpoint that was asked for has stages; a restored database may lack it.
        passed = passage(envelope.data, size_bytes=endpoint.placement.model_size_bytes)
        for key in keys_for(tier=endpoint.spec.tier, model=endpoint.spec.model) if passed else ():
            assert passed is not None
            self._durations.take(key, Envelope(envelope.id, passed, subject=key, time_ms=envelope.time_ms))
