"""What the router is measured beside: other proxies, an engine that costs nothing, a load generator."""
