"""The verbs: what may be asked of endpoint-api, one module a noun; routes and the simulation call them alike."""
