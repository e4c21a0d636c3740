"""The six landmarks: names, files, and their places in world."""
