"""Settings of endpoint-api, from `MILLRACE_…`."""

from __future__ import annotations

from pathlib import Path

from libs.common.settings import CommonSettings


class Settings(CommonSettings):
    """What an operator turns."""

    admin_port: int = 8701
    http_host: str = "127.0.0.1"  # Open to the network only if the operator says so.
    http_port: int = 8700
    catalogue_dir: Path = Path("deploy/catalogue")  # tiers.yaml and models.yaml.
    bootstrap_file: Path | None = (
        None  # JSON {tenant_id, project_id, key, scopes, operator_key?}: a new install's keys.
    )
    dns_servers: str = (
        ""  # ADDRESS or ADDRESS:PORT, by comma, that proofs of domains are asked of; empty: the machine's.
    )
    oidc_file: Path | None = None  # YAML or JSON: the issuers whose people may sign in; see shell/issuers.py.
    endpoints_max: int = (
        20  # Per tenant whose quota says none; failed ones included: they hold their name until they are deleted.
    )
    keys_max: int = 100  # Per tenant, revoked ones not counted; bounds the bucket that every router holds in memory.
    stages_poll_s: float = 15.0  # How often endpoints are counted for the gauges: one read of each live endpoint.
    secret_file: Path | None = None  # 32 bytes or more, of which webhooks' secrets are computed; none: the database's.
    webhooks_to_loopback: bool = False  # For one machine and tests: http, and receivers on this machine.
    trusted_proxies: str = ""  # CIDR blocks, by comma, of proxies whose X-Forwarded-For we believe; empty: none.
    keys_poll_s: float = 5.0  # How late the use of a key may be seen; of each key at most one a minute is written.
    refill_s: float = 10.0  # A bucket that lost what it held has it again after two of these.
    learn_poll_s: float = 2.0  # How often stage times are learned: one small read.
    proofs_poll_s: float = 600.0  # How often it is seen which proofs of domains are due; each is looked at once a day.
    key_snapshot_signing_file: Path | None = (
        None  # PEM with an Ed25519 private key; none: no snapshot is shown, and revocations go over the bus alone.
    )
    key_snapshot_epoch: int = 0  # Raise it by one when the database was restored from a backup: versions went back.
    key_snapshot_s: float = 1.0  # How late a change of a key is in the snapshot: one small read.
