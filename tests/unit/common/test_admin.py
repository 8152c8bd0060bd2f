"""The admin pages: a page is sent once to who keeps it, and is not there while it can't be true."""

from __future__ import annotations

from starlette.testclient import TestClient

from libs.common.admin import AdminPages
from libs.common.errors import Unavailable


class Page:
    """What a service shows; None: it can't say now."""

    def __init__(self) -> None:
        self.text: bytes | None = b"one"

    def __call__(self) -> bytes:
        """The page."""
        if self.text is None:
            raise Unavailable("the records were not seen lately")
        return self.text


def test_who_has_a_page_is_sent_it_again_only_when_it_changed() -> None:
    page = Page()
    client = TestClient(AdminPages(lambda: True, {"/page": page}))

    first = client.get("/page")
    same = client.get("/page", headers={"if-none-match": first.headers["etag"]})
    page.text = b"two"
    other = client.get("/page", headers={"if-none-match": first.headers["etag"]})

    assert (first.status_code, first.content) == (200, b"one")
    assert (same.status_code, same.content) == (304, b"")
    assert (other.status_code, other.content) == (200, b"two")


def test_a_page_that_can_not_be_true_now_is_a_503_and_the_rest_stays() -> None:
    page = Page()
    page.text = None
    client = TestClient(AdminPages(lambda: False, {"/page": page}))

    found = {path: client.get(path).status_code for path in ("/page", "/readyz", "/healthz", "/metrics", "/other")}

    assert found == {"/page": 503, "/readyz": 503, "/healthz": 200, "/metrics": 200, "/other": 404}
    assert "not seen lately" in client.get("/page").text
