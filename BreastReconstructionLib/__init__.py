"""From a phone video of a standing patient to a metric 3D surface of the torso."""

__version__ = "0.3.0"
