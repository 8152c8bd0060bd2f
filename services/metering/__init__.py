"""The slice of metering: the ledger of requests served and GPU time held, and the usage events that a bill is made of.

It hears usage batches of routers, node intervals of capacity-manager and stages of endpoint-api, enters each quantity
into the ledger exactly once, and tells closed windows as `usage.recorded`, again with a higher revision when late.
It touches nothing but its own store, and answers questions about it over HTTP.
"""
