-- Usage in ClickHouse, beside the ledger and never in its place: for questions over years and everybody.
-- Run it once; again changes nothing. README.md beside it says what feeds these tables and what they promise.

CREATE DATABASE IF NOT EXISTS millrace;

-- What arrives: an event or a line of the ledger in each row, as JSON. Nothing is kept here.
CREATE TABLE IF NOT EXISTS millrace.usage_in (event String) ENGINE = Null;
CREATE TABLE IF NOT EXISTS millrace.ledger_in (line String) ENGINE = Null;

-- Windows as they were told. The order is a window's key in metering: of one key the highest revision stays.
CREATE TABLE IF NOT EXISTS millrace.usage_windows
(
    tenant_id LowCardinality(String),
    project_id LowCardinality(String),
    endpoint_id String,
    meter LowCardinality(String),
    account LowCardinality(String),
    model LowCardinality(String),
    window_start DateTime64(3, 'UTC'),
    window_end DateTime64(3, 'UTC'),
    tier LowCardinality(String),
    region LowCardinality(String),
    generation UInt32,
    quantity Int64,
    revision UInt32,
    event_id String,
    told_at DateTime64(3, 'UTC'),
    tenancy LowCardinality(String),
    parts Array(Tuple(adapter String, node_class String, quantity Int64))
)
ENGINE = ReplacingMergeTree(revision)
PARTITION BY toYYYYMM(window_start)
ORDER BY (tenant_id, project_id, endpoint_id, meter, account, model, window_start);

-- Of tables that were made before windows had parts.
ALTER TABLE millrace.usage_windows
    ADD COLUMN IF NOT EXISTS tenancy LowCardinality(String),
    ADD COLUMN IF NOT EXISTS parts Array(Tuple(adapter String, node_class String, quantity Int64));
DROP VIEW IF EXISTS millrace.usage_windows_from_in;

CREATE MATERIALIZED VIEW millrace.usage_windows_from_in TO millrace.usage_windows AS
SELECT
    JSONExtractString(event, 'data', 'tenant_id') AS tenant_id,
    JSONExtractString(event, 'data', 'project_id') AS project_id,
    JSONExtractString(event, 'data', 'endpoint_id') AS endpoint_id,
    JSONExtractString(event, 'data', 'meter') AS meter,
    JSONExtractString(event, 'data', 'account') AS account,
    JSONExtractString(event, 'data', 'model') AS model,
    fromUnixTimestamp64Milli(JSONExtractInt(event, 'data', 'window_start_ms'), 'UTC') AS window_start,
    fromUnixTimestamp64Milli(JSONExtractInt(event, 'data', 'window_end_ms'), 'UTC') AS window_end,
    JSONExtractString(event, 'data', 'tier') AS tier,
    JSONExtractString(event, 'data', 'region') AS region,
    toUInt32(JSONExtract(event, 'generation', 'String')) AS generation,
    JSONExtractInt(event, 'data', 'quantity') AS quantity,
    toUInt32(JSONExtractInt(event, 'data', 'revision')) AS revision,
    JSONExtractString(event, 'id') AS event_id,
    parseDateTime64BestEffort(JSONExtractString(event, 'time'), 3, 'UTC') AS told_at,
    JSONExtractString(event, 'data', 'tenancy') AS tenancy,
    JSONExtract(event, 'data', 'parts', 'Array(Tuple(adapter String, node_class String, quantity Int64))') AS parts
FROM millrace.usage_in
WHERE JSONExtractString(event, 'type') = 'usage.recorded.v1';

-- Ask this one: without FINAL a window that was told again counts as often as it was told, until parts are merged.
CREATE OR REPLACE VIEW millrace.usage AS SELECT * FROM millrace.usage_windows FINAL;

-- The same quantities by adapter and class of nodes; a window without parts is one part, of no adapter or class.
CREATE OR REPLACE VIEW millrace.usage_parts AS
SELECT
    usage.* EXCEPT (parts, quantity),
    part.1 AS adapter,
    part.2 AS node_class,
    part.3 AS quantity
FROM millrace.usage AS usage
ARRAY JOIN if(empty(parts), [('', '', usage.quantity)], parts) AS part;

-- Lines of the ledger, as the usage API's /v1/ledger gives them. A line never changes, so a second one is the same.
CREATE TABLE IF NOT EXISTS millrace.ledger_lines
(
    endpoint_id String,
    at DateTime64(3, 'UTC'),
    id String,
    meter LowCardinality(String),
    account LowCardinality(String),
    quantity Int64,
    data String
)
ENGINE = ReplacingMergeTree
PARTITION BY toYYYYMM(at)
ORDER BY (endpoint_id, at, id);

CREATE MATERIALIZED VIEW IF NOT EXISTS millrace.ledger_lines_from_in TO millrace.ledger_lines AS
SELECT
    JSONExtractString(line, 'endpoint_id') AS endpoint_id,
    fromUnixTimestamp64Milli(JSONExtractInt(line, 'at_ms'), 'UTC') AS at,
    JSONExtractString(line, 'id') AS id,
    JSONExtractString(line, 'meter') AS meter,
    JSONExtractString(line, 'account') AS account,
    JSONExtractInt(line, 'quantity') AS quantity,
    JSONExtractRaw(line, 'data') AS data
FROM millrace.ledger_in;

CREATE VIEW IF NOT EXISTS millrace.ledger AS SELECT * FROM millrace.ledger_lines FINAL;
