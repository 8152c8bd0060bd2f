"""Fixtures of the integration tests."""

from tests.support.postgres import postgres as postgres
