"""Finding what a caller names: an endpoint by id or name, an operation by id, a page of either."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from re import Pattern
from typing import Final

from libs.common.errors import NotFound
from libs.common.runner import Runner
from services.endpoint_api.core import admission
from services.endpoint_api.core.caller import Caller
from services.endpoint_api.core.refusal import FieldRefused
from services.endpoint_api.core.state import Endpoint, home_of
from services.endpoint_api.shell.ports import Ports

LIST_MAX: Final = 200  # One page; bounds memory and the time of one answer.
NO_ENDPOINT: Final = "no such endpoint in this project"  # The same for another tenant's and for one that never was.
NO_OPERATION: Final = "no such operation in this project"


def find(endpoints: Runner[Endpoint], ports: Ports, caller: Caller, ref: str) -> Endpoint:
    """By id or name. Raises NotFound, in the same words for what is another's and for what never was."""
    endpoint: Endpoint | None = None
    if admission.ENDPOINT_ID_FORM.fullmatch(ref):
        endpoint = endpoints.state(ref)
    elif admission.NAME_FORM.fullmatch(ref):
        home = home_of(caller.tenant_id, caller.project_id)
        record = ports.store.find(endpoints.owned.kind, scope=home, label=ref)
        endpoint = endpoints.parse(record) if record else None
    if endpoint is None or not is_callers(caller, endpoint):
        raise NotFound(NO_ENDPOINT)
    return endpoint


def find_of_operation(endpoints: Runner[Endpoint], caller: Caller, operation_id: str) -> Endpoint:
    """The endpoint that an operation is of: it is in its id. Raises NotFound, in the same words for another's."""
    form = admission.OPERATION_ID_FORM.fullmatch(operation_id)
    endpoint = endpoints.state(f"ep-{form.group(1)}") if form else None
    if endpoint is None or not is_callers(caller, endpoint):
        raise NotFound(NO_OPERATION)
    return endpoint


def live_ones(endpoints: Runner[Endpoint], caller: Caller, *, beyond: str = "") -> Iterator[Endpoint]:
    """Endpoints of the caller's project that are not deleted, in order of their ids, those after ``beyond``."""
    home = home_of(caller.tenant_id, caller.project_id)
    page = endpoints.states(scope=home, after=beyond, limit=LIST_MAX)
    while page:
        yield from page
        page = endpoints.states(scope=home, after=page[-1].id, limit=LIST_MAX)


def is_callers(caller: Caller, endpoint: Endpoint) -> bool:
    """Whether it is of the caller's project."""
    return endpoint.is_requested and endpoint.tenant_id == caller.tenant_id and endpoint.project_id == caller.project_id


def check_limit(limit: int) -> None:
    """Raises FieldRefused for a page that is too large, or none."""
    if not 1 <= limit <= LIST_MAX:
        raise FieldRefused("limit", f"must be 1 to {LIST_MAX}")


def cursor_of(last: str) -> str:
    """Where the next page begins; opaque to clients, so that the order may change."""
    return base64.urlsafe_b64encode(last.encode()).decode()


def after(cursor: str, form: Pattern[str]) -> str:
    """The id that a page begins after. Raises FieldRefused for a cursor that no list gave."""
    if not cursor:
        return ""
    try:
        last = base64.b64decode(cursor, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError):
        last = ""
    if form.fullmatch(last) is None:
        raise FieldRefused("cursor", "is not one that a list gave; begin without it")
    return last
