"""The slice of autoscaler: how many replicas an endpoint should have, and from which figures that follows.

It hears limits and stages of endpoint-api, replicas of runtime-deployer and traffic of routers, and tells
`scale.decided` with everything the number was made from. It commands nobody: those who make nodes and replicas follow.
"""
