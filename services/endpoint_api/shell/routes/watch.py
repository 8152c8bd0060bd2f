"""Routes that tell what changes, as server-sent events, and why an endpoint is pending."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Request
from fastapi.responses import StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from services.endpoint_api.core.outlook import WhyView
from services.endpoint_api.shell import problems
from services.endpoint_api.shell.api import Api
from services.endpoint_api.shell.feed import Subscription
from services.endpoint_api.shell.routes.asking import Verbs, Who, _caller

router: Final = APIRouter(tags=["watch"])

SEND_S: Final = 60.0  # A client that takes nothing for so long is cut.
MEDIA_TYPE: Final = "text/event-stream"
ANSWERS: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {MEDIA_TYPE: {"schema": {"type": "string"}}}, "description": "How things stand, then changes."},
    410: {"model": problems.Problem, "content": {problems.MEDIA_TYPE: {}}, "description": "Too old: list anew."},
}
LastEventId = Annotated[str, Header(description="The id of the last event that was read: resume behind it.")]


class WatchResponse(StreamingResponse):
    """A stream that gives its subscription back however it ends."""

    media_type = MEDIA_TYPE

    def __init__(self, api: Api, watch: Subscription, content: AsyncIterator[bytes]) -> None:
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        super().__init__(content, headers=headers, media_type=MEDIA_TYPE)
        self._api = api
        self._watch = watch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send until the client leaves, is too slow, or the watch ends."""

        async def send_in_time(message: Message) -> None:
            await asyncio.wait_for(send(message), SEND_S)

        try:
            await super().__call__(scope, receive, send_in_time)
        finally:
            self._api.watch.close(self._watch)


@router.get("/endpoints/{ref}/watch", status_code=200, response_class=WatchResponse, responses=ANSWERS)
async def watch_endpoint(
    who: Who, verbs: Verbs, request: Request, ref: str, last_event_id: LastEventId = ""
) -> WatchResponse:
    """How an endpoint stands, then every change of it."""
    return await _watch(who, verbs, request, ref, last_event_id)


@router.get("/watch", status_code=200, response_class=WatchResponse, responses=ANSWERS)
async def watch_project(who: Who, verbs: Verbs, request: Request, last_event_id: LastEventId = "") -> WatchResponse:
    """How all endpoints of the project stand, then every change in it."""
    return await _watch(who, verbs, request, "", last_event_id)


@router.get("/endpoints/{ref}/why")
def why_endpoint(who: Who, verbs: Verbs, ref: str) -> WhyView:
    """Why an endpoint is not serving, and what may be done: the cause to look at first comes first."""
    return verbs.why.get(who, ref)


async def _watch(who: Who, verbs: Verbs, request: Request, ref: str, last_id: str) -> WatchResponse:
    watch = await verbs.watch.open(who, ref, last_id=last_id)
    content = verbs.watch.events(who, watch, last_id=last_id, still_good=lambda: _caller(request))
    return WatchResponse(verbs, watch, content)
