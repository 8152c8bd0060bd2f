"""The exports that an operator configured in a file, with secrets in files of their own; one line if it is wrong."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

import httpx
import yaml
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from libs.common.clock import Clock
from libs.common.errors import Invalid
from libs.common.events.usage import Meter as MeterName
from libs.common.signing import signer_from
from libs.common.units import HOUR_MS
from services.metering.core.accounts import Account
from services.metering.core.exports import lago, openmeter, stripe, table
from services.metering.core.exports.receiver import Limits, Receiver
from services.metering.core.exports.state import Code
from services.metering.shell.exporters.files import SignedFiles
from services.metering.shell.exporters.lago import Lago
from services.metering.shell.exporters.openmeter import OpenMeter
from services.metering.shell.exporters.reply import CONNECT_S, TIMEOUT_S, Sender
from services.metering.shell.exporters.stripe import Stripe

BYTES_MAX: Final = 1 << 20
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,31}$")]
Word = Annotated[str, Field(min_length=1, max_length=100)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)


class _Code(_Strict):
    name: Word
    field: Word = "quantity"
    per: int = Field(default=1, ge=1)


class _Entry(_Strict):
    name: Name
    since: AwareDatetime  # From which windows on; nothing before is sent, so that no bill is sent twice by surprise.
    customers: dict[str, Word] = {}
    customer_default: str = Field(default="", max_length=200)
    codes: dict[str, _Code] = Field(min_length=1)

    def limits(self) -> Limits:
        """The figures of this kind of receiver."""
        raise NotImplementedError

    def sender(self, clock: Clock) -> Sender:
        """The way to it."""
        raise NotImplementedError


class _Http(_Entry):
    url: str = Field(max_length=500)
    key_file: Path
    allow_http: bool = False

    def client(self) -> httpx.Client:
        """A client that has the address and the key."""
        parts = urlsplit(self.url)
        is_safe = parts.scheme == "https" or (
            parts.scheme == "http" and (self.allow_http or parts.hostname in LOOPBACK)
        )
        if not is_safe or not parts.hostname:
            raise Invalid(f"export {self.name}: its url must be https:// (or say allow_http: true)")
        try:
            key = self.key_file.read_text().strip()
        except (OSError, UnicodeDecodeError):
            raise Invalid(f"export {self.name}: its key_file can't be read") from None
        if not key or not key.isascii() or not key.isprintable():
            raise Invalid(f"export {self.name}: its key_file is not one line of text")
        return httpx.Client(
            base_url=self.url,
            headers={"authorization": f"Bearer {key}", "user-agent": "millrace-metering/1"},
            timeout=httpx.Timeout(TIMEOUT_S, connect=CONNECT_S),
        )


class _OpenMeter(_Http):
    system: Literal["openmeter"]
    dedupes_h: int = Field(default=24, ge=0)  # `sink.dedupe.config.expiration` there; 0: it is off.

    def limits(self) -> Limits:
        """Its figures."""
        return openmeter.limits(dedupes_ms=self.dedupes_h * HOUR_MS)

    def sender(self, clock: Clock) -> Sender:
        """The way to it."""
        del clock
        return OpenMeter(self.client())


class _Stripe(_Http):
    system: Literal["stripe"]
    url: str = "https://api.stripe.com"
    takes_negative: bool = False

    def limits(self) -> Limits:
        """Its figures."""
        return stripe.limits(takes_negative=self.takes_negative)

    def sender(self, clock: Clock) -> Sender:
        """The way to it."""
        del clock
        return Stripe(self.client())


class _Lago(_Http):
    system: Literal["lago"]

    def limits(self) -> Limits:
        """Its figures."""
        return lago.LIMITS

    def sender(self, clock: Clock) -> Sender:
        """The way to it."""
        del clock
        return Lago(self.client())


class _Files(_Entry):
    system: Literal["files"]
    directory: Path
    signing_key_file: Path
    parquet: bool = False

    def limits(self) -> Limits:
        """Its figures."""
        return table.LIMITS

    def sender(self, clock: Clock) -> Sender:
        """The way to it."""
        try:
            return SignedFiles(self.directory, signer_from(self.signing_key_file), clock, parquet=self.parquet)
        except OSError:
            raise Invalid(f"export {self.name}: its signing_key_file can't be read") from None


class _File(_Strict):
    version: Literal[1]
    exports: tuple[Annotated[_OpenMeter | _Stripe | _Lago | _Files, Field(discriminator="system")], ...]


@dataclass(frozen=True, slots=True)
class Configured:
    """A receiver and the way to it."""

    receiver: Receiver
    sender: Sender


def read_exports(path: Path, clock: Clock) -> tuple[Configured, ...]:
    """The exports in a file. Raises Invalid: one line with what is wrong, and nothing of a secret."""
    try:
        content = path.read_bytes()[: BYTES_MAX + 1]
        if len(content) > BYTES_MAX:
            raise Invalid(f"{path} has more than {BYTES_MAX} bytes")
        entries = _File.model_validate(yaml.safe_load(content)).exports
    except OSError:
        raise Invalid(f"{path} can't be read") from None
    except yaml.YAMLError:
        raise Invalid(f"{path} is not YAML") from None
    except ValidationError as wrong:
        places = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in wrong.errors())
        raise Invalid(f"{path}: {places}") from None
    names = [each.name for each in entries]
    if len(set(names)) < len(names):
        raise Invalid(f"{path}: two exports have one name")
    return tuple(Configured(_receiver(each), each.sender(clock)) for each in entries)


def _receiver(entry: _Entry) -> Receiver:
    known = {
        *(str(each) for each in MeterName),
        *(f"{meter}/{account}" for meter in MeterName for account in Account),
    }
    for name, code in entry.codes.items():
        if name not in known:
            raise Invalid(f"export {entry.name}: there is no meter {name}; there are {', '.join(sorted(known))}")
        if code.per > 1 and not isinstance(entry, _Lago):
            raise Invalid(
                f"export {entry.name}: {name} has a `per`; only Lago takes decimals, the others whole numbers"
            )
    return Receiver(
        name=entry.name,
        limits=entry.limits(),
        customers=entry.customers,
        codes=_codes(entry.codes),
        since_ms=(entry.since - EPOCH) // timedelta(milliseconds=1),
        customer_default=entry.customer_default,
    )


def _codes(codes: Mapping[str, _Code]) -> dict[str, Code]:
    return {meter: Code(each.name, each.field, each.per) for meter, each in codes.items()}
