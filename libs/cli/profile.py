"""The local profile: its settings file, and its state directory."""

from __future__ import annotations

import json
import os
import socket
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import ErrorDetails

from libs.common import keys
from libs.common.errors import Invalid, Unavailable
from libs.common.events.event import Owner
from libs.common.ids import SystemEntropy
from libs.common.signing import Ed25519Signer, new_signing_key

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
DEFAULT_SETTINGS: Final = DEPLOY / "local" / "local.toml"
CATALOGUE: Final = DEPLOY / "catalogue"
MODELS: Final = DEPLOY / "local" / "models"  # Where weights are in the simulated cloud; of others nothing is fetched.


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


Port = Annotated[int, Field(ge=1, le=65_535)]


class Ports(_Part):
    """Where things listen, on loopback."""

    endpoint_api: Port = 8700
    router: Port = 8800
    usage: Port = 8707
    twin: Port = 8600
    nats: Port = 8422
    nats_monitor: Port = 8423
    admin_endpoint_api: Port = 8701
    admin_capacity_manager: Port = 8702
    admin_runtime_deployer: Port = 8703
    admin_router: Port = 8704
    admin_metering: Port = 8705
    admin_autoscaler: Port = 8706

    @model_validator(mode="after")
    def _are_different(self) -> Self:
        taken: dict[int, str] = {}
        for name, port in self.model_dump().items():
            if port in taken:
                raise ValueError(f"{taken[port]} and {name} are both {port}; give each a port of its own")
            taken[port] = name
        return self

    def admin(self, service: Owner) -> int:
        """The health and metrics port of a service."""
        port: int = getattr(self, f"admin_{service.replace('-', '_')}")
        return port


class TwinPart(_Part):
    """How fast the simulated world is."""

    time_scale: float = Field(default=0.02, gt=0)
    tokens_per_second: float = Field(default=40.0, ge=0)


class TenantPart(_Part):
    """Whose key `up` prints."""

    id: str = "acme"
    project: str = "default"


SQLITE: Final = "sqlite:///{home}/{service}.db"


class ServicesPart(_Part):
    """What all services are told."""

    database_url: str = SQLITE
    confirm_gone_s: float = 1.0
    window_s: int = Field(default=10, ge=1)
    log_level: str = "INFO"


class LocalSettings(_Part):
    """The settings file."""

    ports: Ports = Ports()
    twin: TwinPart = TwinPart()
    tenant: TenantPart = TenantPart()
    services: ServicesPart = ServicesPart()


def read_settings(path: Path) -> LocalSettings:
    """Read a settings file. Raises Invalid with one line that names the file, the place and the trouble."""
    try:
        return LocalSettings.model_validate(tomllib.loads(path.read_text()))
    except FileNotFoundError:
        raise Invalid(f"settings file {path} does not exist: name another with --settings") from None
    except OSError as trouble:
        raise Invalid(
            f"settings file {path} can't be read ({trouble.strerror}): name another with --settings"
        ) from None
    except ValidationError as wrong:
        places = "; ".join(f"{'.'.join(map(str, each['loc']))}: {_reason(each)}" for each in wrong.errors())
        raise Invalid(f"settings file {path} is wrong: {places}") from None
    except ValueError as wrong:  # Also of bytes that are no text.
        raise Invalid(f"settings file {path} is not TOML: {wrong}") from None


def _reason(error: ErrorDetails) -> str:
    if error["type"] == "extra_forbidden":
        return f"there is no such setting; {DEFAULT_SETTINGS} has all there are"
    return error["msg"].removeprefix("Value error, ")


@dataclass(frozen=True, slots=True)
class Home:
    """The state directory: everything that `up` writes is below it."""

    path: Path

    @staticmethod
    def default() -> Home:
        """``$MILLRACE_HOME``, else ``.millrace`` in this directory."""
        return Home(Path(os.environ.get("MILLRACE_HOME", ".millrace")).absolute())

    @property
    def plan(self) -> Path:
        """The processes the supervisor runs."""
        return self.path / "plan.json"

    @property
    def state(self) -> Path:
        """The processes that run now, with their pids."""
        return self.path / "state.json"

    @property
    def credentials(self) -> Path:
        """Where the services are, the tenant's first key, and the operator's."""
        return self.path / "credentials.json"

    @property
    def bootstrap(self) -> Path:
        """What endpoint-api records at its start: the first key and whose it is."""
        return self.path / "bootstrap.json"

    @property
    def twin_key(self) -> Path:
        """The access key of the simulated Platform."""
        return self.path / "platform.key"

    @property
    def snapshot_key(self) -> Path:
        """What endpoint-api signs its snapshots of keys with."""
        return self.path / "key-snapshot.pem"

    @property
    def snapshot_public(self) -> Path:
        """What the router checks them with."""
        return self.path / "key-snapshot.pub.pem"

    @property
    def catalogue(self) -> Path:
        """What is sold here: the catalogue that comes with it, and where the simulated cloud has weights."""
        return self.path / "catalogue"

    @property
    def logs(self) -> Path:
        """One log a process."""
        return self.path / "logs"

    @property
    def lock(self) -> Path:
        """Held by the `up` that is at work."""
        return self.path / "up.lock"

    def make(self) -> None:
        """Make its directories; nobody else on the machine may read them. Raises Invalid."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.logs.mkdir(exist_ok=True)
        except OSError as trouble:
            wrong = f"state directory {self.path} can't be made ({trouble.strerror}): set MILLRACE_HOME to another"
            raise Invalid(wrong) from None

    def prepare(self, settings: LocalSettings) -> None:
        """Make, once, the keys, and write down where everything will be."""
        if not self.twin_key.exists():
            write_private(self.twin_key, SystemEntropy().token_bytes(32).hex())
        if not self.snapshot_public.exists():
            private = new_signing_key()
            write_private(self.snapshot_key, private.decode())
            write_private(self.snapshot_public, Ed25519Signer(private).public_pem().decode())
        key = self._kept("key") or keys.mint(SystemEntropy()).plaintext
        operator_key = self._kept("operator_key") or keys.mint(SystemEntropy()).plaintext
        ports = settings.ports
        document = {
            "api_url": f"http://127.0.0.1:{ports.endpoint_api}",
            "router_url": f"http://127.0.0.1:{ports.router}/v1",
            "router_admin_url": f"http://127.0.0.1:{ports.admin_router}",
            "usage_url": f"http://127.0.0.1:{ports.usage}",
            "nats_url": f"nats://127.0.0.1:{ports.nats}",
            "twin_url": f"http://127.0.0.1:{ports.twin}",
            "key": key,
            "operator_key": operator_key,
        }
        write_private(self.credentials, json.dumps(document, indent=2))
        self._write_catalogue(document["twin_url"])
        first = bootstrap_document(settings.tenant.id, settings.tenant.project, key)
        write_private(self.bootstrap, json.dumps({**first, "operator_key": operator_key}))

    def _write_catalogue(self, twin_url: str) -> None:
        """Anew at each start, so that an edit of the one that comes with it counts."""
        (self.catalogue / "models").mkdir(parents=True, exist_ok=True)
        for each in CATALOGUE.glob("*.yaml"):
            (self.catalogue / each.name).write_text(each.read_text())
        for each in MODELS.glob("*.yaml"):
            (self.catalogue / "models" / each.name).write_text(each.read_text().replace("{twin}", twin_url))

    def _kept(self, name: str) -> str | None:
        """A secret that an earlier start made."""
        return written(self.credentials).get(name)


def bootstrap_document(tenant: str, project: str, key: str) -> dict[str, object]:
    """The first key of an installation, as MILLRACE_BOOTSTRAP_FILE has it."""
    return {"tenant_id": tenant, "project_id": project, "scopes": ["manage", "read", "inference"], "key": key}


def written(path: Path) -> dict[str, Any]:
    """What `up` wrote to a file; nothing, if there is none. Raises Invalid for what is not ours."""
    try:
        found = json.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as trouble:
        raise _unreadable(path, type(trouble).__name__) from None
    if not isinstance(found, dict):
        raise _unreadable(path, "no JSON object")
    return found


def _unreadable(path: Path, reason: str) -> Invalid:
    return Invalid(f"{path} can't be read ({reason}): remove it, and `millrace up` makes it anew")


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    part = path.with_suffix(".part")
    part.touch(mode=0o600)
    part.write_text(text)
    part.replace(path)


def database_url(home: Home, settings: LocalSettings, service: Owner) -> str:
    """The setting with the places for ``{home}`` and ``{service}`` filled: a database a service."""
    url = settings.services.database_url.replace("{home}", str(home.path))
    return url.replace("{service}", service.replace("-", "_"))


def require_free(settings: LocalSettings) -> None:
    """Raise Unavailable naming the first port that something else listens on."""
    for name, port in settings.ports.model_dump().items():
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                raise Unavailable(
                    f"port {port} ({name}) is in use: stop what listens there, or set ports.{name} in a settings file"
                ) from None
