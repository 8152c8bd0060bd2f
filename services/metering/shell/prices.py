"""The price book that an operator edits, as whole numbers; one line with what is wrong if it contradicts itself."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Final, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from libs.common.errors import Invalid
from libs.common.events.usage import Meter
from libs.common.units import HOUR_MS
from services.metering.core.accounts import Account
from services.metering.core.rating import ANY, NANO_PER_UNIT, Article, Price, PriceBook

BYTES_MAX: Final = 1 << 20  # Written by hand; a megabyte of it is a mistake.
PER: Final = MappingProxyType(
    {"thousand": 1_000, "million": 1_000_000, "hour": HOUR_MS, "gib_hour": (1 << 10) * HOUR_MS}
)
HELD: Final = (Meter.GPU_MS, Meter.NODE_MS)
METERS: Final = frozenset(
    {*(str(each) for each in Meter if each not in HELD), *(f"{meter}/{name}" for meter in HELD for name in Account)}
)

Word = Annotated[str, Field(min_length=1, max_length=128)]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True, strict=True)


class _Entry(_Strict):
    meter: Word
    model: Word = ANY
    tier: Word = ANY
    price: Annotated[str, Field(pattern=r"^[0-9]{1,9}(\.[0-9]{1,9})?$")]  # A YAML number would be a float.
    per: Annotated[int, Field(ge=1, le=10**12)] | Literal["thousand", "million", "hour", "gib_hour"]


class _File(_Strict):
    version: Literal[1]
    id: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
    currency: Annotated[str, Field(pattern=r"^[A-Z]{3}$")]
    prices: Annotated[list[_Entry], Field(min_length=1)]


def read_prices(path: Path) -> PriceBook:
    """The price book in a file. Raises Invalid: one line, with the file and what is wrong in it."""
    try:
        with path.open("rb") as file:
            content = file.read(BYTES_MAX + 1)
    except OSError as missing:
        raise Invalid(f"prices {path}: {missing.strerror}; set MILLRACE_PRICES_FILE") from None
    if len(content) > BYTES_MAX:
        raise Invalid(f"prices {path}: larger than {BYTES_MAX} bytes")
    try:
        found = _File.model_validate(yaml.safe_load(content))
    except (yaml.YAMLError, UnicodeDecodeError) as malformed:
        raise Invalid(f"prices {path}: {' '.join(str(malformed).split())}") from None
    except ValidationError as wrong:
        told = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in wrong.errors())
        raise Invalid(f"prices {path}: {told}") from None
    prices: dict[Article, Price] = {}
    for each in found.prices:
        article = Article(each.meter, each.model, each.tier)
        if wrong_with := _wrong(each, known=article in prices):
            raise Invalid(f"prices {path}: {wrong_with}")
        per = PER[each.per] if isinstance(each.per, str) else each.per
        prices[article] = Price(int(Decimal(each.price) * NANO_PER_UNIT), per)
    return PriceBook(found.id, MappingProxyType(prices), found.currency)


def _wrong(entry: _Entry, *, known: bool) -> str:
    if entry.meter not in METERS:
        return f"there is no meter {entry.meter}; there are {', '.join(sorted(METERS))}"
    unit = entry.meter.partition("/")[0]
    is_storage = unit.endswith("_mib_ms")
    if entry.per == "gib_hour" and not is_storage:
        return f"{entry.meter} is no storage: its price is not per gib_hour"
    if entry.per == "hour" and (is_storage or not unit.endswith("_ms")):
        return f"{entry.meter} is not time: its price is not per hour"
    return f"two prices for {entry.meter} of model {entry.model} and tier {entry.tier}" if known else ""
