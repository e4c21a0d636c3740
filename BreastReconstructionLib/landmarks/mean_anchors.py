"""The frame that every shape model shares: the official model's mean anchors and scale."""

from __future__ import annotations

import numpy as np

# Rounded mean anchors of the official liRBSM model, model units, order of LANDMARK_NAMES. Facts, not its weights.
OFFICIAL_MEAN_ANCHORS_MODEL = np.array(
    [
        [-0.013, 0.546, -0.043],
        [-0.003, -0.710, 0.194],
        [0.381, -0.081, 0.243],
        [-0.369, -0.066, 0.242],
        [0.532, 0.554, -0.136],
        [-0.522, 0.557, -0.134],
    ]
)
OFFICIAL_MM_PER_UNIT = 1.0 / (2.0 * 0.0017137007706792716)
