"""Triangle meshes: files, distances, boundaries, extraction, visibility."""
