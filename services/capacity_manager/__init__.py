"""capacity-manager owns the claim: the project, tenant cluster, nodes and GPU quota that an endpoint holds.

It hears what was asked, how many replicas should run and what the runtime still needs, and watches vCluster Platform.
It tells each step of getting capacity, why it waits, when each node is held, and that all is confirmed gone.
"""
