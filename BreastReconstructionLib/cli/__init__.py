"""The command line."""

from ..core.threads import rest_while_waiting

rest_while_waiting()  # before anything that reads the environment as it loads: numpy, torch, OpenCV, COLMAP

from .main import main  # noqa: E402

__all__ = ["main"]
