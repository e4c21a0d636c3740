"""Distances, metric scale, accuracy against a known truth."""
