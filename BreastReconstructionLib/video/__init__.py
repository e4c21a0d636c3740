"""Frames from a video or a folder of pictures."""
