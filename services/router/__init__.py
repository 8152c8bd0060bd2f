"""The router: owns routes, and serves what they lead to.

Its control half hears of endpoints and replicas, puts routes into the `routes` bucket, and tells `route.published` and
`route.withdrawn` from what it sees in the data plane's own table. Its data plane checks keys, relays OpenAI requests
to engines, and writes the bill of each into a journal that only the ledger's confirmation empties.
"""
