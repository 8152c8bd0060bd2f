"""Fixtures of the promise suites."""

from tests.contract.nats_scene import broker as broker
from tests.support.nats import nats_server as nats_server
from tests.support.postgres import postgres as postgres
