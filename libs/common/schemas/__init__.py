"""The contract as files that any language can read: written by `make schemas`, held true by `make check`.

Models are the source, files are the contract. `python -m libs.common.schemas [--check]` writes everything about the
bus; a service that has an HTTP API writes its OpenAPI document itself (`python -m services.<name>.shell.openapi`).
"""
