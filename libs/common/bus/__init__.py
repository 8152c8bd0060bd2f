"""The bus: `port` says the promises, `nats` and `memory` keep them, `streams` is the one declaration of all streams."""
