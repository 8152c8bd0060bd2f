"""What operators see: JSON logs, Prometheus metrics, W3C trace ids through the bus."""
