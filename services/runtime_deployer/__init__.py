"""Owns what runs for an endpoint: its objects in the tenant cluster, how far its model is, which replicas may serve.

It hears the request, the cluster and GPUs made ready, the replicas decided and the route withdrawn. It tells
`runtime.*`: each step of the model once a generation, every change of the replicas, and when nothing is left.
"""
