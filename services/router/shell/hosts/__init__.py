"""Routers of several hosts that serve the same endpoints: what they tell each other."""
