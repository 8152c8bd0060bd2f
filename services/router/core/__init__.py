"""Pure rules of the router: HTTP heads, the OpenAI surface, the bill of one request, the lifecycle of a route."""
