"""A phone on a tripod before a patient who turns: the background stands still, so only the patient tells how they turned."""

from __future__ import annotations

import numpy as np

# Side of the compared blocks, how far each may have moved (a phone held in the hand), and how alike it must be.
BLOCK_PX, PLAY_PX, ALIKE = 16, 4, 0.85
# A block with less contrast says nothing.
LEAST_CONTRAST = 6.0
# Compared over this share of the video. There at most 0.05 of the blocks stayed in videos of phones that were carried around,
# 0.15 over an arc of only 54 degrees, 0.19 and more in one from a tripod. Above the first share a failure may be explained by
# it, above the second it is taken for certain.
SPAN = 2 / 3
SUSPICIOUS_SHARE, LARGEST_STILL_SHARE = 0.12, 0.18
TRIPOD = (
    "The background stands still while the patient turns, as before a phone on a tripod: the cameras were found on the patient "
    "alone, who must have turned like one piece, arms and all."
)


def still_share(samples: list[np.ndarray]) -> float:
    """Return the share of the textured blocks that stay where they are over two thirds of a video, its median.

    Args:
        samples: (H, W) float32 grey pictures from all over the video, small (about 160 pixels).
    """
    step = max(1, round(SPAN * (len(samples) - 1)))
    shares = [_still_between(first, second) for first, second in zip(samples, samples[step:], strict=False)]
    return float(np.median(shares)) if shares else 0.0


def _still_between(first: np.ndarray, second: np.ndarray) -> float:
    import cv2

    height, width = first.shape
    still = []
    for top in range(PLAY_PX, height - BLOCK_PX - PLAY_PX, BLOCK_PX):
        for left in range(PLAY_PX, width - BLOCK_PX - PLAY_PX, BLOCK_PX):
            block = first[top : top + BLOCK_PX, left : left + BLOCK_PX]
            if block.std() >= LEAST_CONTRAST:
                around = second[top - PLAY_PX : top + BLOCK_PX + PLAY_PX, left - PLAY_PX : left + BLOCK_PX + PLAY_PX]
                still.append(cv2.matchTemplate(around, block, cv2.TM_CCOEFF_NORMED).max() > ALIKE)
    return float(np.mean(still)) if len(still) >= 5 else 0.0
