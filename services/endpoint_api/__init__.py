"""endpoint-api owns what was asked for: endpoints, keys, operations, and the status composed from what others tell.

It takes commands over HTTP, tells `endpoint.*`, `operation.*` and `key.*`, and hears the facts of every other owner.
It touches no cluster and no GPU: it says what should be, and how far the others are.
"""
