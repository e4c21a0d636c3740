"""From a phone video of a standing patient to a metric 3D surface of the torso."""

__version__ = "0.15.0"  # before the imports: what they import writes it into cases

from .api import OpenCase, open_case, reconstruct, sample_shapes
from .core.errors import BreastReconstructionError

__all__ = ["BreastReconstructionError", "OpenCase", "__version__", "open_case", "reconstruct", "sample_shapes"]
