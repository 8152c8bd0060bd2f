"""Settings of the router."""

from __future__ import annotations

import os
from enum import StrEnum
from typing import Final

from pydantic import Field

from libs.common.settings import CommonSettings

ADMIN_STRIDE: Final = 100  # Between the admin ports of workers: the next ones belong to the other services.
END_SPARE_S: Final = 15.0  # For the bills of what was cut, and for threads to end.


class Role(StrEnum):
    """What a router is among those that serve the same endpoints, each on a host of its own."""

    ALONE = "alone"
    FIRST = "first"  # It has the control half.
    OTHER = "other"


class RouterSettings(CommonSettings):
    """What an operator turns. Units are in the names."""

    admin_port: int = 8704
    http_host: str = "127.0.0.1"
    http_port: int = 8800
    public_url: str = Field(
        default="http://127.0.0.1:8800/v1", description="Where customers reach http_port: their client's base URL."
    )
    probe_url: str = Field(
        default="",
        description="Where we look at our endpoints from outside before we say that they serve; empty: public_url.",
    )
    probe_ca_file: str = Field(
        default="", description="Path of the certificates that probe_url's may come from; empty: the machine's."
    )
    probe_timeout_s: float = 2.0  # A client in the same region would have its answer in a tenth of that.
    instance: str = Field(
        default="router-0", pattern=r"^[a-z0-9-]{1,63}$", description="Unique and stable: the owner of its journal."
    )
    role: Role = Field(
        default=Role.ALONE,
        description="alone; or, of several hosts that serve the same endpoints, the first, which has the control half,"
        " or an other.",
    )
    workers: int = Field(
        default=1, ge=0, le=64, description="Processes that serve http_port together; 0: one for each core."
    )
    tls_cert_file: str = Field(default="", description="Path of the certificate chain; empty: TLS ends before us.")
    tls_key_file: str = Field(default="", description="Path of the certificate's key.")
    proxy_protocol: bool = Field(
        default=False,
        description="Each connection begins with a PROXY header (v1 or v2); only trusted_proxies may connect then.",
    )
    usage_db: str = Field(description="Path of the usage journal, an SQLite file on a local disk.")
    usage_sync: bool = Field(
        default=True,
        description="Wait for the disk before an answer ends. Without: safe against our death, not the machine's;"
        " right where the disk goes with the machine.",
    )
    tables_file: str = Field(default="", description="Path of the copy of routes and keys; empty: beside usage_db.")
    endpoint_domain: str = Field(
        default="", description="Below it each endpoint has an address: `<endpoint>.<domain>`; empty: none has."
    )
    cache_salt_file: str = Field(
        default="",
        description="Path of the secret behind tenants' cache salts; made if missing; empty: beside usage_db.",
    )
    access_log: str = Field(
        default="-", description="A line for every request: - for standard error, a path, or empty."
    )
    otlp_url: str = Field(default="", description="Base URL of an OTLP/HTTP collector for traces; empty: none is told.")
    trace_ratio: float = Field(
        default=0.01, ge=0, le=1, description="Share of requests traced that no caller traces; theirs are as they say."
    )
    copy_stale_s: float = 3600.0  # How old a copy may be that a start without the bus serves from (reliability.md I23).
    key_snapshot_url: str = Field(
        default="",
        description="Where endpoint-api shows its signed snapshot of keys (`/key-snapshot` on its admin port); empty: a"
        " revocation comes over the bus alone.",
    )
    key_snapshot_public_file: str = Field(
        default="", description="Path of the PEM with the Ed25519 public key that snapshots are signed under."
    )
    key_snapshot_pull_s: float = Field(
        default=10.0, gt=0, description="How often it is asked: with the bus away, about how long a revoked key works."
    )
    trusted_proxies: str = Field(
        default="", description="CIDR blocks, by comma, of proxies whose X-Forwarded-For we believe; empty: none."
    )
    drain_s: float = 30.0  # Live streams may finish within this after SIGTERM; above the longest answer we see daily.
    flush_s: float = 5.0  # Last try to hand the journal to the bus; what stays is sent after the next start.
    connect_timeout_s: float = 1.0  # A pod in the same region answers in milliseconds, or is gone.
    first_byte_timeout_s: float = 30.0  # reliability.md 3.4.
    idle_timeout_s: float = 60.0  # Between two pieces of a stream; also how long a reader may stand still.
    total_timeout_s: float = 600.0
    replica_requests_max: int = Field(
        default=256, ge=1, description="Requests that one replica gets at once; more wait here. vLLM's own default."
    )
    bodies_mib: int = Field(
        default=256,
        ge=32,
        description="What bodies of requests may take of a worker's memory until they are answered; one tenant's half"
        " of it. A body may be of 10 MiB, and is copied while it is read and asked.",
    )
    queue_s: float = 30.0  # How long a request waits for a busy replica; as long as for a first byte.
    wake_s: float = 300.0  # How long it waits for an endpoint that sleeps: a cold start of minutes.
    zone: str = Field(default="", description="Failure zone of this router: replicas there are preferred; empty: none.")
    usage_batch_s: float = 0.1  # How long finished requests wait for company before they are reported.
    usage_resend_s: float = 30.0  # Unconfirmed that long: sent again under a new message id.
    load_report_s: float = 2.0  # What the autoscaler's window is made of.
    key_use_report_s: float = 5.0  # How late `last_used_at` may be; of each key at most one use a minute is told.

    @property
    def salt_path(self) -> str:
        """Where the secret of the cache salts is kept; routers that share engines share it."""
        return self.cache_salt_file or f"{self.usage_db}.salt"

    @property
    def worker_count(self) -> int:
        """How many processes serve."""
        return self.workers or len(os.sched_getaffinity(0))

    @property
    def other_admin_ports(self) -> tuple[int, ...]:
        """Where the workers beside the first show theirs."""
        return tuple(self.admin_port + ADMIN_STRIDE * number for number in range(1, self.worker_count))

    @property
    def end_within_s(self) -> float:
        """When a process that was told to stop should have ended."""
        return self.drain_s + self.flush_s + END_SPARE_S

    def of_worker(self, number: int) -> RouterSettings:
        """What one of several workers runs with: its own journal, its own admin page."""
        own = {
            "instance": f"{self.instance}-w{number}" if number else self.instance,
            "usage_db": f"{self.usage_db}.w{number}" if number else self.usage_db,
            "tables_file": self.tables_path,
            "cache_salt_file": self.salt_path,
            "admin_port": self.admin_port + ADMIN_STRIDE * number,
        }
        return self.model_copy(update=own)

    @property
    def tables_path(self) -> str:
        """Where the copy of routes and keys is kept."""
        return self.tables_file or f"{self.usage_db}.tables.json"
