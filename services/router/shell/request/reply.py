"""What a request's client is told when its answer begins: limits, receipt, id. How it is served is known only then."""

from __future__ import annotations

from services.router.core import http_rules
from services.router.core.serving import Serving
from services.router.shell.request.account import Account
from services.router.shell.request.entering import Entered


def stream_head(account: Account, entered: Entered, serving: Serving, keep_alive: bool) -> bytes:
    """Before the first content of a stream."""
    headers, entered.headers = entered.headers + account.answered(entered.target.place, serving.cached_tokens), b""
    return http_rules.stream_head(
        request_id=account.shown_id, keep_alive=keep_alive, headers=headers, media=account.media
    )


def whole(account: Account, entered: Entered, serving: Serving, keep_alive: bool, body: bytes) -> bytes:
    """The answer, all of it."""
    headers = entered.headers + account.answered(entered.target.place, serving.cached_tokens)
    return http_rules.answer(
        200, body, request_id=account.shown_id, keep_alive=keep_alive, headers=headers, media=account.media
    )
