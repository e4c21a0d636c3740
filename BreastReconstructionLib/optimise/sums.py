"""Sums of rows that belong together."""

from __future__ import annotations

import numpy as np


def sum_rows(index: np.ndarray, count: int, values: np.ndarray) -> np.ndarray:
    """Return the (count, C) sums of the (N, C) rows of each (N,) index; many times as fast as `np.add.at`."""
    return np.stack([np.bincount(index, column, count) for column in values.T], axis=1)
