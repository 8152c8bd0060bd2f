"""The engine that the twin's pods run: a small n-gram model behind the OpenAI API, with vLLM's metrics."""
