"""The edges of metering: its store as a world to reconcile with, the read API, metrics, settings."""
