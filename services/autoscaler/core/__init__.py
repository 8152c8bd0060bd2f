"""Scaling as a function: figures in, a number and its reason out. Nothing here knows a clock or a bus."""
