"""Which verb a command is for, and what its answer looks like."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final

from pydantic import BaseModel

from libs.common.events import command as cmd
from services.endpoint_api.core.caller import Ask
from services.endpoint_api.core.status import OperationView
from services.endpoint_api.shell.api import Api
from services.endpoint_api.shell.doors.answer import Answer


def answer_to(api: Api, ask: Ask, command: cmd.Command) -> Answer:
    """Do what ``command`` asks, once for the ids in ``ask``. Raises what the verb raises."""
    assert ask.request_id, "a door gives each command an id: without one, all pauses were the same"
    return _ACTS[type(command)](api, ask, command)


def _accepted(found: BaseModel) -> Answer:
    """An operation was accepted, or a plan was made. The ETag is the one that the endpoint has by this change."""
    if not isinstance(found, OperationView):
        return Answer(HTTPStatus.OK, found.model_dump_json())
    return Answer(
        HTTPStatus.ACCEPTED,
        found.model_dump_json(),
        location=f"/v1/operations/{found.id}",
        etag=etag_of(found.generation),
        about=found.endpoint_id,
    )


def etag_of(generation: int) -> str:
    """The ETag of an endpoint: what is asked for, not how it stands."""
    return f'"{generation}"'


def _create(api: Api, ask: Ask, command: cmd.CreateEndpoint) -> Answer:
    return _accepted(api.endpoints.create(ask, name=command.name, spec=command.spec.spec()))


def _update(api: Api, ask: Ask, command: cmd.UpdateEndpoint) -> Answer:
    return _accepted(api.endpoints.update(ask, command.endpoint, changes=command.spec))


def _scale(api: Api, ask: Ask, command: cmd.ScaleEndpoint) -> Answer:
    return _accepted(api.endpoints.scale(ask, command.endpoint, scaling=command.scaling))


def _pause(api: Api, ask: Ask, command: cmd.PauseEndpoint) -> Answer:
    return _accepted(api.endpoints.pause(ask, command.endpoint, drain_deadline_s=command.drain_deadline_s))


def _drain(api: Api, ask: Ask, command: cmd.DrainEndpoint) -> Answer:
    return _accepted(api.endpoints.drain(ask, command.endpoint, drain_deadline_s=command.drain_deadline_s))


def _resume(api: Api, ask: Ask, command: cmd.ResumeEndpoint) -> Answer:
    return _accepted(api.endpoints.resume(ask, command.endpoint))


def _delete(api: Api, ask: Ask, command: cmd.DeleteEndpoint) -> Answer:
    return _accepted(api.endpoints.delete(ask, command.endpoint, drain_deadline_s=command.drain_deadline_s))


def _cancel(api: Api, ask: Ask, command: cmd.CancelOperation) -> Answer:
    answer = _accepted(api.operations.cancel(ask, command.operation))
    return replace(answer, etag="")  # The operation's generation is the one that was undone.


def _hold(api: Api, ask: Ask, command: cmd.PauseOperation | cmd.ResumeOperation) -> Answer:
    holds = isinstance(command, cmd.PauseOperation)
    return replace(_accepted(api.operations.hold(ask, command.operation, holds=holds)), etag="")


def _revoke(api: Api, ask: Ask, command: cmd.RevokeKey) -> Answer:
    return Answer(HTTPStatus.OK, api.keys.revoke(ask, command.key).model_dump_json())


# Each act takes the command of its own class; the mapping is what joins them.
_ACTS: Final[Mapping[type[cmd.Command], Callable[[Api, Ask, Any], Answer]]] = MappingProxyType(
    {
        cmd.CreateEndpoint: _create,
        cmd.UpdateEndpoint: _update,
        cmd.ScaleEndpoint: _scale,
        cmd.PauseEndpoint: _pause,
        cmd.DrainEndpoint: _drain,
        cmd.ResumeEndpoint: _resume,
        cmd.DeleteEndpoint: _delete,
        cmd.CancelOperation: _cancel,
        cmd.PauseOperation: _hold,
        cmd.ResumeOperation: _hold,
        cmd.RevokeKey: _revoke,
    }
)
assert set(_ACTS) == set(cmd.COMMANDS.values()), "every command has a verb"
