"""A phone on a tripod before a patient who turns: the background stands still, so it cannot tell where the phone was."""

from __future__ import annotations

import numpy as np

# Side of the compared blocks, how far each may have moved (a phone held in the hand), and how alike it must be.
BLOCK_PX, PLAY_PX, ALIKE = 20, 4, 0.85
# A block with less contrast says nothing.
LEAST_CONTRAST = 6.0
# Carried around a patient, next to nothing of the picture stays where it is.
LARGEST_STILL_SHARE = 0.3


def still_share(samples: list[np.ndarray]) -> float:
    """Return the share of a video's textured blocks that stay where they are from its first sample to nearly all others.

    Args:
        samples: (H, W) float32 grey pictures from all over the video, small (about 160 pixels).
    """
    import cv2

    first, others = samples[0], samples[1:]
    height, width = first.shape
    still = textured = 0
    for top in range(PLAY_PX, height - BLOCK_PX - PLAY_PX, BLOCK_PX):
        for left in range(PLAY_PX, width - BLOCK_PX - PLAY_PX, BLOCK_PX):
            block = first[top : top + BLOCK_PX, left : left + BLOCK_PX]
            if block.std() < LEAST_CONTRAST:
                continue
            around = np.s_[top - PLAY_PX : top + BLOCK_PX + PLAY_PX, left - PLAY_PX : left + BLOCK_PX + PLAY_PX]
            alike = [cv2.matchTemplate(other[around], block, cv2.TM_CCOEFF_NORMED).max() for other in others]
            textured += 1
            still += np.percentile(alike, 20) > ALIKE
    return still / textured if textured >= 5 else 0.0
