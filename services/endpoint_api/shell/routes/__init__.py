"""The HTTP routes, one module a noun: read the request, call the verb, answer. No rules; those are in core/."""
