"""What operators see of requests: lines, spans, totals."""
