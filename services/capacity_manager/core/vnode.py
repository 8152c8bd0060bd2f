"""Whether pods can run in vNode sandboxes on a node: what the product documents that it needs, held against what is.

Before a node of such a cluster is cordoned, whatever takes its place must be known to be fit: by the template that says
what its OS image has, or by the new node itself where one stands ready first.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

KERNEL_MIN: Final = (6, 1)
CONTAINERD: Final = ((1, 7), (2, 0))
VERSION: Final = re.compile(r"^v?(\d+)\.(\d+)")


@dataclass(frozen=True, slots=True)
class Image:
    """What a node runs, or an OS image has; empty where nobody says."""

    kernel: str = ""
    containerd: str = ""


UNSAID: Final = Image()
NO_IMAGES: Final[Mapping[str, Image]] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Sandboxes:
    """The tiers whose pods run in sandboxes, and what the OS image of a template's nodes has, as its file says."""

    tiers: frozenset[str] = frozenset()
    images: Mapping[str, Image] = field(default_factory=lambda: NO_IMAGES)

    def image_of(self, template: str) -> Image:
        """Of `<name>@<version>`."""
        return self.images.get(template, UNSAID)


NO_SANDBOXES: Final = Sandboxes()


@dataclass(frozen=True, slots=True)
class Unfit:
    """Why sandboxes would not start: a code that never changes its meaning, the reason, and what to do."""

    code: str
    message: str
    offer: str

    def __str__(self) -> str:
        """As people read it."""
        return f"{self.code}: {self.message}; {self.offer}"


def of_image(image: Image, of: str) -> Iterator[Unfit]:
    """What is wrong with the versions that are known of a node or an image."""
    kernel, containerd = _version(image.kernel), _version(image.containerd)
    if image.kernel and (kernel is None or kernel < KERNEL_MIN):
        yield Unfit(
            "VNodeKernelTooOld",
            f"{of} has kernel {image.kernel}, and vNode needs {_text(KERNEL_MIN)} or later",
            "name an OS image with a newer kernel in a new version of the template, and roll to that",
        )
    if image.containerd and containerd not in CONTAINERD:
        yield Unfit(
            "VNodeContainerdUnsupported",
            f"{of} has containerd {image.containerd}, and vNode runs on {' or '.join(map(_text, CONTAINERD))} only",
            "name an OS image with one of those in a new version of the template, and roll to that",
        )


def of_unsaid(image: Image, of: str) -> Iterator[Unfit]:
    """What nobody said of an image, where no node of it can be looked at before it is needed."""
    if _version(image.kernel) is None or _version(image.containerd) is None:
        yield Unfit(
            "VNodeImageUnknown",
            f"no machine is free to be looked at first, and {of} does not say which kernel and containerd it has",
            "write both under nodes.image in the template's file, or try again when a machine of the type is free",
        )


def of_cluster(*, is_licensed: bool | None, has_runtime_class: bool | None) -> Iterator[Unfit]:
    """What is wrong with the cluster; None is not known, and says nothing."""
    if is_licensed is False:
        yield Unfit(
            "VNodeUnlicensed",
            "the Platform's licence has no active vnode-runtime any more, so a new node would get no sandboxes",
            "renew it; `millrace doctor` shows what the licence has",
        )
    if has_runtime_class is False:
        yield Unfit(
            "VNodeRuntimeClassMissing",
            "the cluster has no RuntimeClass vnode, so no pod that moves would be taken in",
            "make it again, or roll the tier to a template version that does",
        )


def _version(text: str) -> tuple[int, int] | None:
    found = VERSION.match(text)
    return (int(found[1]), int(found[2])) if found else None


def _text(version: tuple[int, int]) -> str:
    return f"{version[0]}.{version[1]}"
