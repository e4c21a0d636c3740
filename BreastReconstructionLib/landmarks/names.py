"""The six landmarks, in the order of the paper; left and right are the patient's."""

from __future__ import annotations

LANDMARK_NAMES = (
    "sternal-notch",
    "navel",
    "left-nipple",
    "right-nipple",
    "left-coracoid",
    "right-coracoid",
)

# Places of the left and right nipple in LANDMARK_NAMES.
NIPPLES = (2, 3)
# Left and right exchanged, in the order of LANDMARK_NAMES.
EXCHANGED = [0, 1, 3, 2, 5, 4]
