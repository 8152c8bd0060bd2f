"""The edges of autoscaler: what it needs from outside, what an operator may turn, what it shows."""
