"""Bone from a radiograph: networks that see it, and the fit of a shape model to it."""
