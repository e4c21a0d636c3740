"""The growth plot: cost against size, with the slopes that are allowed."""

from __future__ import annotations

from pathlib import Path

import numpy as np


def plot_growth(growth: dict, path: Path) -> None:
    """Draw seconds against points, frames, cells and width, doubly logarithmic; dashed: the growth that is allowed."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    cuda = {name: {f"{name}, CUDA": values} for name, values in growth.get("cuda", {}).items()}
    panels = [
        ("points fitted to", 1, {"fit": growth["points"]}),
        ("frames (draft)", 1, {key: _column(growth["frames"], key) for key in ("seconds", "cameras", "dense")}),
        ("cells a side", 2, {"surface": growth["cells"]} | cuda.get("cells", {})),
        ("width of the network", 2, {"100,000 distances": growth["width"]} | cuda.get("width", {})),
    ]
    figure, axes = pyplot.subplots(1, 4, figsize=(15, 3.6), constrained_layout=True)
    for axis, (label, power, series) in zip(axes, panels, strict=True):
        for name, values in series.items():
            x, y = np.array(list(values), float), np.array(list(values.values()))
            axis.loglog(x, y, "o-", label="all" if name == "seconds" else name)
        axis.loglog(x, y[-1] * (x / x[-1]) ** power, "k--", linewidth=0.8, label="linear" if power == 1 else "square")
        axis.set_xticks(x, [f"{size:,.0f}" for size in x])
        axis.set_xticks([], minor=True)
        axis.set_xlabel(label)
        axis.set_ylabel("seconds, 2 cores")
        axis.legend(fontsize=8)
        axis.grid(alpha=0.3)
    figure.savefig(path, dpi=110)


def _column(rows: dict, key: str) -> dict:
    return {count: values[key] for count, values in rows.items()}


def exponent(values: dict) -> float:
    """Slope of the doubly logarithmic curve between its two largest sizes."""
    (x0, y0), (x1, y1) = sorted((float(x), y) for x, y in values.items())[-2:]
    return float(np.log(y1 / y0) / np.log(x1 / x0))
