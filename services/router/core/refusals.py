"""What a client is told when a request is refused: a status and OpenAI's exact error object."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from libs.common.errors import Rejected

INVALID_REQUEST = "invalid_request_error"
SERVER_ERROR = "server_error"


class HttpRefusal(Rejected):
    """A request ends here, with this status and this error."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: str | None = None,
        kind: str = INVALID_REQUEST,
        param: str | None = None,
        retry_after_s: int | None = None,
        headers: bytes = b"",
    ) -> None:
        super().__init__(message, code=code)
        self.status = status
        self.kind = kind
        self.param = param
        self.error_code = code
        self.retry_after_s = retry_after_s
        self.headers = headers

    def body(self) -> bytes:
        """The JSON that the client reads."""
        error = {"message": str(self), "type": self.kind, "param": self.param, "code": self.error_code}
        return msgspec.json.encode({"error": error})


def spread(refusal: HttpRefusal, *, draw: int) -> int | None:
    """When to ask again: as the refusal says, and where it is ours, up to as long again and a second, by ``draw``.

    Many are refused at once then, and all of them together would only be refused again. When a limit of the client's
    own has room again is known, and said as it is.
    """
    after_s = refusal.retry_after_s
    if after_s is None or refusal.status < 500:
        return after_s
    return after_s + draw % (after_s + 2)


def invalid_key() -> HttpRefusal:
    """Missing, malformed, unknown, revoked or expired: the five look the same on purpose."""
    how = b'www-authenticate: Bearer realm="millrace"\r\n'
    return HttpRefusal(401, "Incorrect API key provided.", code="invalid_api_key", headers=how)


def scope_missing() -> HttpRefusal:
    """A good key that may not call models."""
    return HttpRefusal(403, "This API key may not be used for inference.", code="insufficient_scope")


def model_not_found(model: str) -> HttpRefusal:
    """No endpoint of that name in the key's project, or one of somebody else's."""
    name = model[:100]
    message = f"The model `{name}` does not exist or you do not have access to it."
    return HttpRefusal(404, message, code="model_not_found", param="model")


def not_of_this_model(path: str, served: Iterable[str]) -> HttpRefusal:
    """The endpoint exists and its model does not answer this call; in OpenAI's words where OpenAI has some."""
    others = sorted(each.removeprefix("/") for each in served)
    called = path.removeprefix("/")
    if called == "v1/chat/completions" and "v1/completions" in others:
        hint = "Did you mean to use v1/completions?"
        message = f"This is not a chat model and thus not supported in the {called} endpoint. {hint}"
    else:
        message = f"This model is not supported in the {called} endpoint; it is in {', '.join(others)}."
    return HttpRefusal(404, message, param="model")


def unknown_url(method: str, path: str) -> HttpRefusal:
    """Nothing is served there."""
    return HttpRefusal(404, f"Invalid URL ({method} {path[:100]})")


def wrong_method(method: str, path: str, *, allowed: str) -> HttpRefusal:
    """Something is served there, by another method."""
    how = b"allow: %s\r\n" % allowed.encode()
    return HttpRefusal(405, f"Not allowed to {method} on {path[:100]}", code="method_not_supported", headers=how)


def too_large(limit_bytes: int) -> HttpRefusal:
    """The body is larger than we read."""
    return HttpRefusal(413, f"The request body is larger than {limit_bytes} bytes.", code="request_too_large")


def no_replica() -> HttpRefusal:
    """The endpoint exists and nothing that serves it is ready."""
    return HttpRefusal(
        503, "No replica of this model is ready; try again shortly.", code="no_replica", kind=SERVER_ERROR,
        retry_after_s=2,
    )  # fmt: skip


def endpoint_paused() -> HttpRefusal:
    """The endpoint is kept and not running. No Retry-After: it comes back when its owner resumes it, not by itself."""
    message = "This endpoint is paused. Resume it, or ask for another model; trying again does not help."
    return HttpRefusal(503, message, code="endpoint_paused", kind=SERVER_ERROR, param="model")


def rate_limited(what: str, retry_after_s: int | None, *, headers: bytes) -> HttpRefusal:
    """More requests or tokens than the endpoint, its project or its tenant may have in a minute."""
    then = "this request alone is more than that" if retry_after_s is None else f"try again in {retry_after_s} s"
    message = f"Rate limit reached: {what} per minute; {then}."
    return HttpRefusal(
        429, message, code="rate_limit_exceeded", kind=what, retry_after_s=retry_after_s, headers=headers
    )


def overloaded(retry_after_s: int) -> HttpRefusal:
    """Ours: every replica has as much as it can take, and so has the queue."""
    return HttpRefusal(
        503, "All replicas of this model are busy; try again shortly.", code="overloaded", kind=SERVER_ERROR,
        retry_after_s=retry_after_s,
    )  # fmt: skip


def busy(retry_after_s: int) -> HttpRefusal:
    """Ours: this process has more to do than it can, whatever the engines have."""
    return HttpRefusal(
        503, "This router is overloaded; try again shortly.", code="overloaded", kind=SERVER_ERROR,
        retry_after_s=retry_after_s,
    )  # fmt: skip


def too_many_waiting(retry_after_s: int) -> HttpRefusal:
    """Yours: others wait too, and nobody has more waiting than this key."""
    return HttpRefusal(
        429, "Too many requests of this API key wait for a busy model; send fewer at once.",
        code="rate_limit_exceeded", kind="concurrency", retry_after_s=retry_after_s,
    )  # fmt: skip


def too_many_at_once(retry_after_s: int | None) -> HttpRefusal:
    """As many run as the endpoint, its key, project or tenant may have at once."""
    return HttpRefusal(
        429, "Rate limit reached: requests at once; wait for one of yours to end.", code="rate_limit_exceeded",
        kind="concurrency", retry_after_s=retry_after_s,
    )  # fmt: skip


def too_large_at_once(limit_bytes: int) -> HttpRefusal:
    """What the tenant sent, and what is not answered or not taken yet, has as much memory as one tenant may have."""
    what = "Requests of your organisation that are not answered yet, and answers that are not read yet,"
    message = f"{what} have {limit_bytes} bytes; send fewer at once."
    return HttpRefusal(429, message, code="rate_limit_exceeded", kind="concurrency", retry_after_s=1)


def budget_spent(budget: str, *, is_spent: bool) -> HttpRefusal:
    """The month's budget has no room for the request; or not now: its slice may grow, or what runs give some back."""
    whose = ("organisation", "project", "key")[budget.count(".")]
    then = "It begins anew with the month; ask your administrator for more" if is_spent else "Try again in 1 s"
    message = f"You exceeded the token budget of your {whose}, or this request could. {then}."
    return HttpRefusal(
        429, message, code="insufficient_quota", kind="insufficient_quota", retry_after_s=None if is_spent else 1
    )


def upstream_failed() -> HttpRefusal:
    """The engine failed before it answered, and another try did not help."""
    return HttpRefusal(
        502, "The model failed to answer; try again.", code="upstream_error", kind=SERVER_ERROR, retry_after_s=1
    )


def answer_too_large(limit_bytes: int) -> HttpRefusal:
    """The engine answered with more than we keep of an answer that is given out whole: it would again."""
    less = "ask for fewer inputs or choices in one request, for fewer dimensions, or for encoding_format base64"
    message = f"The answer to this request is larger than {limit_bytes} bytes; {less}."
    return HttpRefusal(400, message, code="answer_too_large")


def upstream_timeout() -> HttpRefusal:
    """The engine took longer than we wait."""
    return HttpRefusal(504, "The model took too long to answer.", code="timeout", kind=SERVER_ERROR)


def cannot_record() -> HttpRefusal:
    """Usage can't be recorded, so nothing is served: no answer without its line in the bill."""
    return HttpRefusal(
        503, "The request can not be recorded right now; try again.", code="unavailable", kind=SERVER_ERROR,
        retry_after_s=5,
    )  # fmt: skip


def limits_unknown() -> HttpRefusal:
    """Nobody can say for the moment what is left of a limit: no answer beyond it."""
    return HttpRefusal(
        503, "Limits can not be checked right now; try again.", code="unavailable", kind=SERVER_ERROR, retry_after_s=1
    )


def stopping() -> HttpRefusal:
    """This process is going away; another, or the same after its restart, will answer."""
    return HttpRefusal(
        503, "This router is restarting; try again.", code="unavailable", kind=SERVER_ERROR, retry_after_s=1
    )
