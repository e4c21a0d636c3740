"""Markers and the metric scale, what is plausible, accuracy against a known truth."""
