"""The edges at which a mesh ends."""

from __future__ import annotations

import numpy as np


def on_boundary(faces: np.ndarray, count: int) -> np.ndarray:
    """(count,) True for the vertices at which a mesh ends."""
    found = np.zeros(count, bool)
    for loop in boundary_loops(faces):
        found[loop] = True
    return found


def boundary_loops(faces: np.ndarray) -> list[np.ndarray]:
    """Return the closed loops of edges that only one of the (F, 3) faces has, each (K,) vertices along the faces' orientation.

    The longest comes first; an empty list means a closed mesh. Where loops touch in a vertex they are parted there.
    """
    half_edges = faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2)
    _, first, counts = np.unique(np.sort(half_edges, axis=1), axis=0, return_index=True, return_counts=True)
    following: dict[int, list[int]] = {}
    for start, stop in half_edges[first[counts == 1]].tolist():
        following.setdefault(start, []).append(stop)
    loops = []
    while following:
        path, place = [next(iter(following))], {}
        place[path[0]] = 0
        while path:
            stops = following.get(path[-1])
            if not stops:  # an edge that leads nowhere: faces of mixed orientation
                following.pop(path.pop(), None)
                continue
            vertex = stops.pop()
            if not stops:
                del following[path[-1]]
            if vertex in place:
                start = place[vertex]
                loops.append(np.array(path[start:]))
                for passed in path[start + 1 :]:
                    del place[passed]
                del path[start + 1 :]
                if not following.get(vertex):
                    break
            else:
                place[vertex] = len(path)
                path.append(vertex)
    return sorted(loops, key=len, reverse=True)
