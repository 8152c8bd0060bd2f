"""The simulated world over real protocols: vCluster Platform, tenant Kubernetes clusters, nodes and a model server.

It is the only simulated thing in the product, so its shapes are the real ones: what runs against the twin runs against
a real Platform. `world.World` is the whole of it in one thread; `server` puts it on HTTP; `inprocess` puts real clients
on it without a network; `model_server` is the engine that its pods run.
"""
