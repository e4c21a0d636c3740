"""Frames from a video, and the printed marker in them."""
