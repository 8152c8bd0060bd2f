"""The bus on NATS JetStream: FastStream delivers, nats-py publishes; every default that loses messages is overridden.

Services only bind: streams, buckets and consumers are made by `provision`. Figures and traps: reference/messaging.md.
"""

from libs.common.bus.nats.bus import NatsBus, Patience

__all__ = ["NatsBus", "Patience"]
