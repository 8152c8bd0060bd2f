"""The accounts of the ledger: which one a quantity belongs to, and how accounts are written.

An endpoint's requests and tokens are in `<tenant>/<project>/<endpoint>`, its GPU time in `…/loading`, `…/serving`,
`…/draining`, `…/idle_owned`, `…/warm` and `…/stranded`: every GPU-millisecond of a held node is in exactly one of them.
Nodes of a cluster that endpoints share are the provider's own, in `!pool/<project>/<pool>/…`. Nodes of an endpoint that
nobody asked for are in `!unowned/…/stranded`, and what could not be taken is in `!parked/…`. Tokens that were served
from slices of budgets are also in `!budget/<budget>/<month>`, which nobody is billed by.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from libs.common.events.endpoint import Stage


class Account(StrEnum):
    """What a node's time was spent on.

    Draining: the endpoint was asked to go, and live streams may still run. Idle owned: they ended, and the node is on
    its way back. Warm: held ready for what comes next. Stranded: held for nobody, because all is said to be given
    back, nobody ever asked for it, or the node was lost.
    """

    LOADING = "loading"
    SERVING = "serving"
    DRAINING = "draining"
    IDLE_OWNED = "idle_owned"
    WARM = "warm"
    STRANDED = "stranded"


class Flaw(StrEnum):
    """Why a reported request is parked instead of billed."""

    MALFORMED_ID = "malformed_id"
    NEGATIVE = "negative"
    TOO_LARGE = "too_large"
    ENDED_BEFORE_STARTED = "ended_before_started"
    FUTURE = "future"
    TOO_OLD = "too_old"
    FOREIGN = "foreign"
    MALFORMED = "malformed"
    CONFLICT = "conflict"


ACCOUNT_OF_STAGE: Final[Mapping[Stage, Account]] = MappingProxyType(
    {
        Stage.REQUESTED: Account.LOADING,
        Stage.WAITING_FOR_CAPACITY: Account.LOADING,
        Stage.PROVISIONING_CLUSTER: Account.LOADING,
        Stage.JOINING_NODES: Account.LOADING,
        Stage.PREPARING_GPU: Account.LOADING,
        Stage.PULLING_IMAGE: Account.LOADING,
        Stage.DOWNLOADING_MODEL: Account.LOADING,
        Stage.LOADING_MODEL: Account.LOADING,
        Stage.WARMING_CACHE: Account.LOADING,
        Stage.PUBLISHING_ROUTE: Account.LOADING,
        Stage.READY: Account.SERVING,
        Stage.UPDATING: Account.SERVING,
        Stage.PAUSING: Account.DRAINING,
        Stage.PAUSED: Account.STRANDED,  # It is called paused once its nodes are given back.
        Stage.DEGRADED: Account.SERVING,  # Held for the customer and answering again by itself; a credit is rating's.
        Stage.DRAINING: Account.DRAINING,
        Stage.DELETING: Account.IDLE_OWNED,
        Stage.DELETED: Account.STRANDED,
        Stage.FAILED: Account.DRAINING,  # Nothing that is told says when its streams have ended.
    }
)
assert set(ACCOUNT_OF_STAGE) == set(Stage)
ENDED: Final = frozenset({Account.DRAINING, Account.IDLE_OWNED, Account.STRANDED})
NOBODY: Final = "!unowned"
POOLED: Final = "!pool"
BUDGETED: Final = "!budget"


def root_of(*, tenant: str, project: str, endpoint: str) -> str:
    """The account of an endpoint's requests, and the beginning of its other accounts."""
    return f"{tenant}/{project}/{endpoint}"


def accounts_of(root: str) -> tuple[tuple[str, str], ...]:
    """Every account of an endpoint, with the name that billing knows it by (empty for requests and tokens)."""
    return ((root, ""), *((held_account(root, each), each.value) for each in Account))


def parts_of(account: str) -> tuple[str, str]:
    """The endpoint's own account and the name behind it: what `accounts_of` put together."""
    tenant, project, endpoint, *name = account.split("/")
    return f"{tenant}/{project}/{endpoint}", "/".join(name)


def nobodys_root(endpoint: str) -> str:
    """The beginning of the accounts of nodes whose endpoint nobody asked for, as far as was heard."""
    return root_of(tenant=NOBODY, project="-", endpoint=endpoint)


def held_account(root: str, account: Account) -> str:
    """Where GPU time of an endpoint goes."""
    return f"{root}/{account}"


def parked_account(flaw: Flaw) -> str:
    """Where a request that cannot be billed is kept; no tenant's name begins with an exclamation mark."""
    return f"!parked/{flaw}"


def slice_account(name: str) -> str:
    """Where tokens are counted that were served from slices of a budget; ``name`` is <budget>@<month>."""
    budget, _, period = name.partition("@")
    return root_of(tenant=BUDGETED, project=budget, endpoint=period)


def is_aside(account: str) -> bool:
    """Whether the account is no part of usage: it holds what could not be taken, or what is counted elsewhere too."""
    return account.startswith(("!parked/", f"{BUDGETED}/"))


def is_unbilled(account: str) -> bool:
    """Whether the account holds what no tenant is told of: what was parked, and nodes that nobody asked for."""
    return account.startswith("!")
