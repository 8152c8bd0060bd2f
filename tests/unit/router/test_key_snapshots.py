"""Snapshots of keys: a revocation that the bus never told, and everything that must not pass for one."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

import pytest

from libs.common.bus.streams import KEYS
from libs.common.events.tables import KeyEntry
from libs.common.key_snapshot import KeySnapshot, sealed
from libs.common.keys import Keyring, mint
from libs.common.signing import Ed25519Signer, Signer, new_signing_key
from services.router.core.key_snapshots import STALE_MS
from services.router.shell.told.key_snapshots import KeySnapshots
from tests.unit.endpoint_api.given import CountingEntropy
from tests.unit.router.test_copies import NOW, World

SIGNER: Final = Ed25519Signer(new_signing_key())
STRANGER: Final = Ed25519Signer(new_signing_key())
MINTED: Final = mint(CountingEntropy())
WAIT_S: Final = 60.0  # For an answer from this very process, on a machine that may have better to do.
ENTRY: Final = KeyEntry(
    key_id=MINTED.key_id, sha256=MINTED.sha256, tenant_id="acme", project_id="main", scopes=("inference",)
)  # fmt: skip


class Shown(ThreadingHTTPServer):
    """What endpoint-api's admin port shows: this content, under its ETag."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.content = b""
        self.status = 200

    def show(
        self,
        *,
        version: int,
        over: bool = False,
        epoch: int = 0,
        issued_ms: int = NOW,
        signer: Signer = SIGNER,
        entry: KeyEntry = ENTRY,
    ) -> bytes:
        """A true snapshot, unless somebody else signs it; returns it as it travels."""
        snapshot = KeySnapshot(
            epoch=epoch,
            version=version,
            issued_at_ms=issued_ms,
            keys=() if over else (entry,),
            over=(entry.key_id,) if over else (),
        )
        self.content = sealed(snapshot, signer)
        return self.content


class _Handler(BaseHTTPRequestHandler):
    server: Shown

    def do_GET(self) -> None:  # Its base class says so.
        """Answer as the admin page does."""
        tag = f'"{hash(self.server.content)}"'
        is_known = self.headers.get("if-none-match") == tag
        self.send_response(304 if is_known and self.server.status == 200 else self.server.status)
        self.send_header("etag", tag)
        self.end_headers()
        if not is_known:
            self.wfile.write(self.server.content)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: tests read what they need."""


@pytest.fixture(scope="module")
def server() -> Iterator[Shown]:
    """Somebody to ask."""
    with Shown() as shown:
        thread = threading.Thread(target=shown.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        yield shown
        shown.shutdown()


class Router:
    """The keys of a router that pulls, and the file that outlives it."""

    def __init__(self, server: Shown, path: Path) -> None:
        (path / "public.pem").write_bytes(SIGNER.public_pem())
        server.content, server.status = b"", 200
        self.server = server
        self._path = path
        self.world = World(path)
        self.start()

    def start(self) -> None:
        """A new process."""
        self.world.start()
        url = f"http://127.0.0.1:{self.server.server_port}/key-snapshot"
        public_file = str(self._path / "public.pem")
        self.snapshots = KeySnapshots(
            self.world.copies.take, self.world.clock, url=url, public_file=public_file, period_s=10, timeout_s=WAIT_S
        )

    def pull(self) -> str:
        """One round; what came of it."""
        return self.snapshots.round()

    def lets_in(self) -> bool:
        """Whether the key is good here."""
        held = {key: KeyEntry.model_validate_json(value) for key, value in self.world.tables[KEYS].items()}
        return Keyring(held).check(MINTED.plaintext, now_ms=self.world.clock.now_ms()) is not None


@pytest.fixture
def router(server: Shown, tmp_path: Path) -> Router:
    """A router that heard of the key, and then nothing more of the bus."""
    router = Router(server, tmp_path)
    router.world.tell(KEYS, ENTRY.key_id, ENTRY.model_dump_json().encode())
    return router


def test_a_key_that_was_revoked_while_the_bus_is_silent_is_refused_for_good(router: Router) -> None:
    router.server.show(version=1)
    before = (router.pull(), router.lets_in())

    router.server.show(version=2, over=True)
    after = (router.pull(), router.lets_in())
    router.world.tell(KEYS, ENTRY.key_id, ENTRY.model_dump_json().encode())  # An older bucket, when the bus is back.

    assert (before, after) == (("taken", True), ("taken", False))
    assert not router.lets_in()
    assert router.pull() == "confirmed"


def test_a_key_that_was_made_while_the_bus_is_away_is_let_in(server: Shown, tmp_path: Path) -> None:
    router = Router(server, tmp_path)
    server.show(version=1)

    assert (router.lets_in(), router.pull(), router.lets_in()) == (False, "taken", True)


def test_an_older_snapshot_is_refused_also_by_the_next_process(router: Router) -> None:
    old = router.server.show(version=1)
    router.server.show(version=2, over=True)
    router.pull()
    router.world.copies.save()
    router.server.content = old
    first = (router.pull(), router.lets_in())

    router.start()
    second = (router.pull(), router.lets_in())

    assert (first, second) == (("older", False), ("older", False))


def test_a_raised_epoch_goes_before_every_version_and_still_no_ended_key_comes_back(router: Router) -> None:
    router.server.show(version=900, over=True)
    router.pull()

    router.server.show(epoch=1, version=3)

    assert (router.pull(), router.lets_in()) == ("taken", False)


@pytest.mark.parametrize(
    "spoiled",
    [
        lambda content: content[: len(content) // 2],
        lambda content: content[:-1],
        lambda content: content.replace(b'"over":["', b'"over":[],"was":["'),
        lambda content: b"00" + content[2:],
        lambda content: content.partition(b"\n")[2],
        lambda _content: b"",
        lambda _content: b"not found\n",
    ],
    ids=["half", "one byte less", "another text", "another signature", "no signature", "nothing", "another page"],
)
def test_a_snapshot_that_is_not_whole_and_signed_changes_nothing(
    router: Router, spoiled: Callable[[bytes], bytes]
) -> None:
    content = router.server.show(version=2, over=True)
    router.server.content = spoiled(content)

    assert (router.pull(), router.lets_in()) == ("unsigned", True)


def test_a_snapshot_that_somebody_else_signed_changes_nothing(router: Router) -> None:
    router.server.show(version=2, over=True, signer=STRANGER)

    assert (router.pull(), router.lets_in()) == ("unsigned", True)


def test_a_true_snapshot_that_somebody_kept_for_too_long_is_refused(server: Shown, tmp_path: Path) -> None:
    router = Router(server, tmp_path)  # It knows nothing that could be older than this.
    server.show(version=1, issued_ms=NOW - STALE_MS - 1)

    assert (router.pull(), router.lets_in()) == ("stale", False)


def test_the_earlier_end_of_a_key_counts_whoever_told_it_and_in_whatever_order(router: Router) -> None:
    ending = ENTRY.model_copy(update={"expires_at_ms": NOW + 1_000})
    router.world.tell(KEYS, ENTRY.key_id, ending.model_dump_json().encode())
    router.server.show(version=1)  # From before the rotation that the bus told of.
    router.pull()
    router.world.clock.advance(1_000)
    kept = router.lets_in()

    sooner = ENTRY.model_copy(update={"expires_at_ms": NOW + 500})
    router.server.show(version=2, entry=sooner)
    router.pull()

    assert not kept
    assert KeyEntry.model_validate_json(router.world.tables[KEYS][ENTRY.key_id]) == sooner


def test_while_nobody_can_say_what_is_known_is_served_and_its_age_is_shown(router: Router) -> None:
    router.server.show(version=1)
    router.pull()
    router.server.status = 503
    router.world.clock.advance(30_000)

    assert (router.pull(), router.lets_in(), router.snapshots.is_fresh()) == ("away", True, False)
    assert router.snapshots.age_s() == 30
