"""A ledger of any size for measuring questions, made by the database itself: the entries that requests would have left.

Requests come evenly over 30 days, at a thousand endpoints of which a few are busy, under three keys a tenant. What is
made is what the service would have entered, byte for byte; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from sqlalchemy import Connection

from libs.common.events.route import RequestUsage
from libs.common.store.sql import SqlStore
from libs.common.units import DAY_MS, HOUR_MS

T0: Final = 1_796_083_200_000  # 2026-12-01.
SPAN_MS: Final = 30 * DAY_MS
TENANTS: Final = 50
CHUNK: Final = 300_000  # Requests made in one transaction; they are kept in memory, about 200 MB.
LINES: Final = 3  # Of a request.
SCATTER: Final = 2_654_435_761
BUSY: Final = 1_000  # The product of two scattered numbers below it prefers low ones.

METERS: Final = (("requests", "1"), ("prompt_tokens", "prompt"), ("completion_tokens", "completion"))
LABELS: Final = (
    """'{"generation":1,"key":"' || key || '","model":"millrace/ngram-1","region":"eu-1","tier":"h100-dedicated"}'"""
)
CONTENT: Final = (
    """'{"api":"chat","completion_tokens":' || completion || ',"ended_ms":' || at_ms || ',"endpoint_id":"'"""
    """ || endpoint || '","finish":"stop","first_token_ms":' || (at_ms - 700) || ',"generation":1,"key_id":"' || key"""
    """ || '","model":"millrace/ngram-1","project_id":"main","prompt_tokens":' || prompt"""
    """ || ',"region":"eu-1","request_id":"req-' || digits || '","started_ms":' || (at_ms - 900)"""
    """ || ',"tenant_id":"' || tenant || '","tier":"h100-dedicated","token_source":"engine_final"}'"""
)
NUMBERS: Final = {
    "sqlite": "WITH RECURSIVE s(n) AS (SELECT {first} UNION ALL SELECT n + 1 FROM s WHERE n + 1 < {behind})",
    "postgresql": "WITH s(n) AS (SELECT generate_series(CAST({first} AS bigint), {behind} - 1))",
}
DIGITS: Final = {"sqlite": "printf('%0{1}d', {0})", "postgresql": "lpad(CAST({0} AS text), {1}, '0')"}
BYTES: Final = {"sqlite": "CAST({0} AS BLOB)", "postgresql": "convert_to({0}, 'UTF8')"}


def a_request(number: int, of: int) -> RequestUsage:
    """One of so many requests, as a router would report it."""
    scattered = number * SCATTER % 2**32
    endpoint = (scattered % BUSY) * (scattered // BUSY % BUSY) // BUSY
    tenant, at_ms = endpoint % TENANTS, T0 + number * SPAN_MS // of
    return RequestUsage(
        request_id=f"req-{number:012d}",
        tenant_id=f"tenant-{tenant:02d}",
        project_id="main",
        endpoint_id=f"ep-{endpoint:04d}",
        generation=1,
        model="millrace/ngram-1",
        tier="h100-dedicated",
        region="eu-1",
        key_id=f"key-{tenant:02d}-{number % 3}",
        api="chat",
        prompt_tokens=number % 4000,
        completion_tokens=number % 700,
        token_source="engine_final",
        finish="stop",
        started_ms=at_ms - 900,
        first_token_ms=at_ms - 700,
        ended_ms=at_ms,
    )


def fill(store: SqlStore, requests: int) -> Iterator[int]:
    """Make the entries of so many requests, and their sums; says how many entries there are after each step."""
    store._database.keep_months(T0)
    with store._database.reading() as connection:
        if connection.dialect.name == "sqlite":  # What is lost with the power is made again.
            for pragma in ("journal_mode = OFF", "synchronous = OFF", "cache_size = -1000000", "temp_store = MEMORY"):
                connection.exec_driver_sql(f"PRAGMA {pragma}")
    for first in range(0, requests, CHUNK):
        behind = min(requests, first + CHUNK)
        with store._database.writing() as connection:
            for statement in _statements(connection.dialect.name, first, behind, requests):
                _run(connection, statement)
        yield LINES * behind


def _statements(dialect: str, first: int, behind: int, of: int) -> Iterator[str]:
    digits = DIGITS[dialect]
    numbers = NUMBERS[dialect].format(first=first, behind=behind)
    scattered = f"(n * {SCATTER} % {2**32})"
    line, content = "'request/req-' || digits || '/'", BYTES[dialect].format(CONTENT)
    nothing = BYTES[dialect].format(repr(""))
    if dialect == "postgresql":
        yield "SET LOCAL statement_timeout = 0"
    yield (
        f"CREATE TEMP TABLE made AS {numbers},"
        f" a AS (SELECT n, ({scattered} % {BUSY}) * ({scattered} / {BUSY} % {BUSY}) / {BUSY} AS e FROM s),"
        f" b AS (SELECT n, e, e % {TENANTS} AS t, {T0} + n * {SPAN_MS} / {of} AS at_ms, n % 4000 AS prompt,"
        f" n % 700 AS completion, {digits.format('n', 12)} AS digits, 'ep-' || {digits.format('e', 4)} AS endpoint"
        f" FROM a), c AS (SELECT *, 'tenant-' || {digits.format('t', 2)} AS tenant,"
        f" 'key-' || {digits.format('t', 2)} || '-' || (n % 3) AS key FROM b)"
        f" SELECT {line} AS line, tenant || '/main/' || endpoint AS account, e, n % 3 AS k, at_ms, prompt, completion,"
        f" {LABELS} AS labels, {content} AS content FROM c"
    )
    for meter, quantity in METERS:
        id_ = f"line || '{meter}'"
        if dialect == "postgresql":
            yield f"INSERT INTO entry_ids (id, at_ms) SELECT {id_}, at_ms FROM made"
        data, data_of = ("content", "NULL") if meter == METERS[0][0] else (nothing, f"line || '{METERS[0][0]}'")
        yield (
            "INSERT INTO entries (id, account, meter, quantity, at_ms, data, labels, data_of)"
            f" SELECT {id_}, account, '{meter}', {quantity}, at_ms, {data}, labels, {data_of} FROM made"
        )
    for table, size_ms in (("sums", HOUR_MS), ("day_sums", DAY_MS)):
        yield _summed(table, size_ms)
    yield "DROP TABLE made"


def _summed(table: str, size_ms: int) -> str:
    # By numbers, of which account and labels follow: sorting by their texts takes as long as making the entries.
    return (
        f"WITH h AS (SELECT min(account) AS account, at_ms - at_ms % {size_ms} AS start_ms, min(labels) AS labels,"
        " count(*) AS requests, sum(prompt) AS prompt_tokens, sum(completion) AS completion_tokens"
        " FROM made GROUP BY e, k, 2)"
        f" INSERT INTO {table} (account, start_ms, meter, labels, quantity) "
        + " UNION ALL ".join(f"SELECT account, start_ms, '{meter}', labels, {meter} FROM h" for meter, _ in METERS)
        + " WHERE true ON CONFLICT (account, start_ms, meter, labels) DO UPDATE"
        f" SET quantity = {table}.quantity + excluded.quantity"
    )


def _run(connection: Connection, statement: str) -> None:
    is_escaped = connection.dialect.name == "postgresql"  # Its driver reads a % as a place for a value.
    connection.exec_driver_sql(statement.replace("%", "%%") if is_escaped else statement)
