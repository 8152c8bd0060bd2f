"""Where the services are and the key to them: from the environment, from a saved profile, or from `millrace up`."""

from __future__ import annotations

import fcntl
import json
import os
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final

from libs.cli.profile import Home, written
from libs.client.signin import Session, refreshed
from libs.common.clock import SystemClock
from libs.common.errors import Invalid, MillraceError

PROFILE: Final = "MILLRACE_PROFILE"  # Set by the option --profile too.
PROJECT: Final = "MILLRACE_PROJECT"  # Set by the option --project too.
OPERATOR: Final = "operator"  # The profile of this name is what `up` made, unless another is saved under it.
CONFIG: Final = "MILLRACE_CONFIG"
PRIVATE: Final = 0o600  # Keys lie in it.


@dataclass(frozen=True, slots=True)
class Credentials:
    """Where the services are, and the key to them. `project` is for people who are members of several, `session` of who
    signed in.
    """

    api_url: str
    router_url: str = ""
    usage_url: str = ""
    nats_url: str = ""
    key: str = ""
    project: str = ""
    session: Session | None = None
    router_admin_url: str = ""  # Of operators: `millrace top`.

    def of(self, session: Session) -> Credentials:
        """The same for somebody who signed in: the token is the key."""
        return replace(self, key=session.token, session=session)

    @staticmethod
    def read(home: Home) -> Credentials:
        """The profile that was asked for, else what `up` wrote; ``$MILLRACE_API_URL`` … go before both."""
        found = _named(os.environ[PROFILE], home) if os.environ.get(PROFILE) else _written(home, "key")
        names = [each.name for each in fields(Credentials) if each.name != "session"]
        asked: dict[str, Any] = {name: os.environ.get(f"MILLRACE_{_variable(name)}", "") for name in names}
        found = replace(found, **{name: value for name, value in asked.items() if value})
        if not found.api_url or not found.key:
            raise MillraceError(
                "no credentials: run `millrace up`, save some with `millrace profiles add`, or set MILLRACE_API_URL and"
                " MILLRACE_API_KEY"
            )
        return found


def config_file() -> Path:
    """Where profiles are kept: ``$MILLRACE_CONFIG``, else below the user's configuration directory."""
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(os.environ.get(CONFIG) or Path(base) / "millrace" / "profiles.json")


def saved() -> dict[str, Credentials]:
    """The saved profiles, by name. Raises Invalid for a file that is not ours."""
    try:
        found = json.loads(config_file().read_text())
        return {name: _parsed(values) for name, values in sorted(found.items())}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, AttributeError) as wrong:
        raise Invalid(f"{config_file()} can't be read ({type(wrong).__name__}): mend or remove it") from None


def save(profiles: dict[str, Credentials]) -> None:
    """Keep these profiles, readable by nobody else."""
    path = config_file()
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_suffix(".new")
    with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE), "w") as out:
        json.dump({name: asdict(each) for name, each in profiles.items()}, out, indent=2)
    new.replace(path)


def _named(name: str, home: Home) -> Credentials:
    profiles = saved()
    if name not in profiles and name == OPERATOR:
        return _written(home, "operator_key")
    if name not in profiles:
        raise MillraceError(f"there is no profile {name}; there are: {', '.join(profiles) or 'none'}")
    session = profiles[name].session
    return profiles[name] if session is None or not session.is_over(SystemClock().now_ms()) else _renewed(name)


def _renewed(name: str) -> Credentials:
    """The profile with its next token. One process at a time: a provider takes a refresh token once."""
    with config_file().with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        profiles = saved()
        found = profiles[name]
        if found.session is not None and found.session.is_over(SystemClock().now_ms()):
            found = found.of(refreshed(found.session))
            save({**profiles, name: found})
        return found


def _parsed(values: dict[str, Any]) -> Credentials:
    session = values.get("session")
    return Credentials(**{**values, "session": Session(**session) if session else None})


def _written(home: Home, key: str) -> Credentials:
    """What `up` wrote, with the key that it calls so."""
    noted = written(home.credentials)
    known = {each.name for each in fields(Credentials)}
    found = {name: value for name, value in noted.items() if name in known}
    return Credentials(**{"api_url": "", **found, "key": noted.get(key, "")})


def _variable(name: str) -> str:
    return "API_KEY" if name == "key" else name.upper()
