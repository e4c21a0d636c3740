"""Synthetic patients with exact ground truth."""
