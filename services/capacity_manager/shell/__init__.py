"""The world around the claim: settings, vCluster Platform over HTTP, and metrics."""
