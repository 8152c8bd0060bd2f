"""Resource quotas of GPUs: what a namespace may take, what it has taken, and the refusal that says both."""

from __future__ import annotations

from typing import Final

from libs.twin import kinds
from libs.twin.answers import forbidden
from libs.twin.objects import Json, clone, is_terminating, name_of, namespace_of
from libs.twin.pods import GPU, gpus_of, is_over
from libs.twin.store import Store

COUNTED: Final = (f"requests.{GPU}", f"limits.{GPU}")  # An extended resource has both alike; only the first is used.


class Quotas:
    """Counts the GPUs of pods against `ResourceQuota`s. Of other resources it knows nothing."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def admit(self, pod: Json) -> None:
        """Raise 403 for a pod that would pass a quota of its namespace."""
        wanted = gpus_of(pod)
        for quota in self._store.all(kinds.QUOTAS, namespace_of(pod)) if wanted else ():
            for each, hard in _limits(quota).items():
                used = self._used(namespace_of(pod))
                if used + wanted > hard:
                    raise forbidden(
                        f'pods "{name_of(pod)}" is forbidden: exceeded quota: {name_of(quota)}, requested: {each}='
                        f"{wanted}, used: {each}={used}, limited: {each}={hard}"
                    )

    def step(self) -> None:
        """Write into each quota what is used."""
        for quota in self._store.all(kinds.QUOTAS):
            limits = _limits(quota)
            used = str(self._used(namespace_of(quota))) if limits else ""
            status = {"hard": quota["spec"].get("hard", {}), "used": dict.fromkeys(limits, used)}
            if quota.get("status") != status and not is_terminating(quota):
                self._store.put(kinds.QUOTAS, {**clone(quota), "status": status})

    def _used(self, namespace: str) -> int:
        return sum(gpus_of(each) for each in self._store.all(kinds.PODS, namespace) if not is_over(each))


def _limits(quota: Json) -> dict[str, int]:
    hard = quota["spec"].get("hard") or {}
    return {each: int(hard[each]) for each in COUNTED if each in hard}
