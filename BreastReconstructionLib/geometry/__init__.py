"""Transforms between the coordinate frames, cameras, pictures."""
