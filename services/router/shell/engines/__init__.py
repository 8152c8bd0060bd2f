"""Engines' side: which replicas there are, who gets which, connections to them."""
