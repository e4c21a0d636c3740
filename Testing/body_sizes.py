"""`python -m Testing.body_sizes [N]`: distances of the landmarks on bodies of both populations, for plausibility.py."""

from __future__ import annotations

import itertools
import sys

import numpy as np

from BreastReconstructionLib.landmarks.names import LANDMARK_NAMES
from BreastReconstructionLib.phantom.torso import sample_torso, sample_wide_torso


def main(count: int) -> None:
    landmarks = [sample_torso(700_000 + seed)[0].landmarks_ras for seed in range(count)]
    landmarks += [sample_wide_torso(700_000 + seed)[0].landmarks_ras for seed in range(count)]
    for a, b in itertools.combinations(range(len(LANDMARK_NAMES)), 2):
        lengths = np.linalg.norm([points[a] - points[b] for points in landmarks], axis=1)
        print(
            f'    ("{LANDMARK_NAMES[a]}", "{LANDMARK_NAMES[b]}"): ({lengths.mean():.0f}, {lengths.std():.0f}),'
            f"  # {lengths.min():.0f} to {lengths.max():.0f}"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
