"""Which verb a command is for, and what its answer looks like."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from types import MappingProxyType
from typing import Any, Final

from pydantic import BaseModel

from libs.common.events import command as cmd
from services.endpoint_api.core.caller import Ask
from services.endpoint_api.core.status import OperationView
from services.endpoint_api.shell.api import Api
from services.endpoint_api.shell.doors.answer import Answer, Told


class Front:
    """Answers commands: each once for its Idempotency-Key."""

    def __init__(self, api: Api) -> None:
        self._api = api

    def answer(self, ask: Ask, command: cmd.Command, *, told: Told | None = None) -> Answer:
        """The answer to ``command``. Raises what its verb raises, Reused and InFlight."""
        return self._api.once.run(ask, command, lambda asked: answer_to(self._api, asked, command), told=told)


def answer_to(api: Api, ask: Ask, command: cmd.Command) -> Answer:
    """Do what ``command`` asks. Raises what the verb raises."""
    return _ACTS[type(command)](api, ask, command)


def _accepted(found: BaseModel) -> Answer:
    """An operation was accepted, or a plan was made."""
    if isinstance(found, OperationView):
        about = found.endpoint_id
        return Answer(HTTPStatus.ACCEPTED, found.model_dump_json(), f"/v1/operations/{found.id}", about)
    return Answer(HTTPStatus.OK, found.model_dump_json())


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
    return _accepted(api.operations.cancel(ask, command.operation))


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
        cmd.RevokeKey: _revoke,
    }
)
assert set(_ACTS) == set(cmd.COMMANDS.values()), "every command has a verb"
