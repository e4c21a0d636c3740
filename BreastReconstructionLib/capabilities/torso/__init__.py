"""Video to surface."""
