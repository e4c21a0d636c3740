"""Cameras and points: COLMAP, VGGSfM, imported reconstructions, dense flow."""
