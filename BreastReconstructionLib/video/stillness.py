"""A phone on a tripod before a patient who turns: the background stands still, so only the patient tells how they turned."""

from __future__ import annotations

import numpy as np

# Side of the compared blocks, how far each may have moved (a phone held in the hand), and how alike it must be.
BLOCK_PX, PLAY_PX, ALIKE = 16, 4, 0.85
# A block with less contrast says nothing.
LEAST_CONTRAST = 6.0
# Looked at is the room: this share of the picture at each side, and at the top; all of it where too few blocks there say
# anything.
SIDE_SHARE, TOP_SHARE, FEWEST_BLOCKS = 0.2, 0.12, 5
# Compared over this share of the video. Of the room nothing stayed in videos of phones that were carried around, 0.05 over
# an arc of only 54 degrees, 0.25 and more in those from a tripod. Above the first share a failure may be explained by it, above
# the second it is taken for certain.
SPAN = 2 / 3
SUSPICIOUS_SHARE, LARGEST_STILL_SHARE = 0.12, 0.18
TRIPOD = (
    "The background stands still while the patient turns, as before a phone on a tripod: the cameras were found on the patient "
    "alone, who must have turned like one piece, arms and all."
)


def still_share(samples: list[np.ndarray]) -> float:
    """Return the share of the room's textured blocks that stay where they are over two thirds of a video, its median.

    Args:
        samples: (H, W) float32 grey pictures from all over the video, small (about 160 pixels).
    """
    step = max(1, round(SPAN * (len(samples) - 1)))
    shares = [_still_between(first, second) for first, second in zip(samples, samples[step:], strict=False)]
    return float(np.median(shares)) if shares else 0.0


def _still_between(first: np.ndarray, second: np.ndarray) -> float:
    import cv2

    height, width = first.shape
    everywhere, room = [], []
    for top in range(PLAY_PX, height - BLOCK_PX - PLAY_PX, BLOCK_PX):
        for left in range(PLAY_PX, width - BLOCK_PX - PLAY_PX, BLOCK_PX):
            block = first[top : top + BLOCK_PX, left : left + BLOCK_PX]
            if block.std() >= LEAST_CONTRAST:
                around = second[top - PLAY_PX : top + BLOCK_PX + PLAY_PX, left - PLAY_PX : left + BLOCK_PX + PLAY_PX]
                stays = cv2.matchTemplate(around, block, cv2.TM_CCOEFF_NORMED).max() > ALIKE
                everywhere.append(stays)
                at_side = left < SIDE_SHARE * width or left + BLOCK_PX > (1 - SIDE_SHARE) * width
                if at_side or top < TOP_SHARE * height:
                    room.append(stays)
    still = room if len(room) >= FEWEST_BLOCKS else everywhere
    return float(np.mean(still)) if len(still) >= FEWEST_BLOCKS else 0.0
