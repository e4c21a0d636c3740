"""The zero level of a signed distance function, coarse to fine: only points next to the surface are evaluated."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..core.errors import FitError
from ..fields.field import Field

# Cells a side of the coarsest grid; one of half as many again is the most that is needed to reach a wanted number.
COARSEST = 32
# A followed vertex moves by at most this in one step, model units (15 mm).
LARGEST_FOLLOWED = 0.05
_CORNERS = np.stack(np.meshgrid(*((0, 1),) * 3, indexing="ij"), axis=-1).reshape(-1, 3)


@dataclass(frozen=True)
class ZeroLevel:
    """A triangle mesh in the frame of its field.

    Attributes:
        vertices: (V, 3).
        faces: (F, 3), outward by the right-hand rule.
        evaluated: points at which the function was evaluated.
        cells: cells a side of the grid.
        cell: side of a cell.
    """

    vertices: np.ndarray
    faces: np.ndarray
    evaluated: int
    cells: int
    cell: float


def cells_for(size: float, side: float = 2.0) -> int:
    """Return the number of cells a side, a multiple of 4 that halves down to the coarsest grid, for cells of at most `size`.

    Args:
        size: of a cell, in the unit of the field.
        side: of the field's cube.
    """
    wanted = side / size
    halvings = _halvings(wanted)
    return int(np.ceil(wanted / 2**halvings)) * 2**halvings


def _halvings(cells: float) -> int:
    """How often a number of cells a side is halved to reach the coarsest grid."""
    return max(2, int(np.ceil(np.log2(cells / (1.5 * COARSEST)))))


def extract_zero_level(field: Field, cells: int = 256, guarded: bool = True) -> ZeroLevel:
    """Extract the surface that marching cubes gives on a dense grid of `cells` cells a side over the field's cube.

    Two grids are searched by cell centres and the Lipschitz bound. From there on the values of a finer grid are guessed
    from the coarser one, and a point is evaluated if the guess is within the interpolation error of zero, or if an edge
    at it crosses the surface; so no edge that crosses is left with a guess, and the mesh is the dense grid's. No
    component is missed that contains a corner of the second grid, that is, a ball of 1.74 of the coarsest cells'
    halves; smaller ones are found where gradient and second derivatives keep to the field's bounds.

    Args:
        field: see Field.
        cells: cells a side; see `cells_for`.
        guarded: False for a preview: without the test by second derivatives, a third fewer points.

    Raises:
        FitError: the field has no zero level in its cube.
    """
    halvings = _halvings(cells)
    if cells % 2**halvings:
        raise ValueError(f"{cells} cells a side do not halve down to the coarsest grid; see cells_for")
    counted = _Counted(field)
    count = cells >> halvings
    active = _near_surface(counted, np.stack(np.unravel_index(np.arange(count**3), (count,) * 3), axis=1), count)
    count *= 2
    active = _near_surface(counted, (2 * active[:, None] + _CORNERS).reshape(-1, 3), count)
    grid = _Grid.evaluated_everywhere(counted, active, count)
    while grid.count < cells:
        grid = grid.refined(counted, guarded and (2 * grid.count < cells or halvings == 2))
    if len(grid.cells) == 0:
        raise FitError("The fitted shape has no surface; check the landmarks and fit again.")
    vertices, faces = _contour(grid)
    return ZeroLevel(vertices, faces, counted.points, cells, field.side / cells)


class _Counted:
    """A field that counts the points at which it is evaluated."""

    def __init__(self, field: Field):
        self.field, self.points = field, 0

    def __call__(self, points: np.ndarray) -> np.ndarray:
        self.points += len(points)
        return self.field.distance(points)


def _near_surface(distance: _Counted, cells: np.ndarray, count: int) -> np.ndarray:
    """Keep the (N, 3) cells of a grid that may meet the surface.

    Dropped is a cell whose centre is farther from the surface than the Lipschitz bound allows any of its points to be.
    """
    field = distance.field
    size = field.side / count
    value = distance(field.low + (cells + 0.5) * size)
    return cells[np.abs(value) <= field.lipschitz * size * np.sqrt(3) / 2]


@dataclass(frozen=True)
class _Grid:
    """A sparse grid over a field's cube: (C, 3) cells, the sorted flat keys of their corners, and the corners' values."""

    field: Field
    count: int
    cells: np.ndarray
    keys: np.ndarray
    values: np.ndarray

    @classmethod
    def evaluated_everywhere(cls, distance: _Counted, cells: np.ndarray, count: int) -> _Grid:
        """Evaluate every corner of the given cells."""
        keys = np.unique(_corner_keys(cells, count))
        return cls(distance.field, count, cells, keys, distance(_positions(keys, count, distance.field)))

    def corner_values(self) -> np.ndarray:
        """(C, 2, 2, 2) values at the cells' corners."""
        return self.values[np.searchsorted(self.keys, _corner_keys(self.cells, self.count))].reshape(-1, 2, 2, 2)

    def refined(self, distance: _Counted, guarded: bool) -> _Grid:
        """Halve the cells that may meet the surface; values are exact at both ends of every edge that crosses it.

        Args:
            distance: the function.
            guarded: evaluate also what the guess cannot tell from zero, by the bound on second derivatives.
        """
        count, size = 2 * self.count, self.field.side / self.count
        # Of trilinear interpolation over a surface, along two directions of which the field bends.
        margin = 0.25 * self.field.curvature * size**2
        corners = self.corner_values()
        near = margin if guarded else 0.0
        kept = (corners.min(axis=(1, 2, 3)) <= near) & (corners.max(axis=(1, 2, 3)) >= -near)
        lattice = _halved(corners[kept]).reshape(-1)
        steps = np.stack(np.meshgrid(*((0, 1, 2),) * 3, indexing="ij"), axis=-1).reshape(-1, 3)
        keys, first = np.unique(_point_keys((2 * self.cells[kept][:, None] + steps).reshape(-1, 3), count), return_index=True)
        values = lattice[first].astype(np.float32)
        exact = np.zeros(len(keys), bool)
        cells = np.sort(_cell_keys((2 * self.cells[kept][:, None] + _CORNERS).reshape(-1, 3), count))
        wanted = np.abs(values) <= margin if guarded else np.zeros(len(keys), bool)
        while True:
            if wanted.any():
                values[wanted] = distance(_positions(keys[wanted], count, self.field))
                exact |= wanted
            low, high, axis = _crossing_edges(keys, values, count)
            wanted = np.zeros(len(keys), bool)
            wanted[low] = wanted[high] = True
            wanted &= ~exact
            if wanted.any():
                continue
            missing = _cells_around(keys[low], axis, count)
            missing = missing[~_contains(cells, missing)]
            if len(missing) == 0:
                break
            # The surface leaves the cells that were looked at: follow it.
            cells = np.sort(np.concatenate([cells, missing]))
            corner = np.unique(_corner_keys(_unravel(missing, count), count))
            new = corner[~_contains(keys, corner)]
            order = np.argsort(np.concatenate([keys, new]), kind="stable")
            values = np.concatenate([values, np.zeros(len(new), np.float32)])[order]
            exact = np.concatenate([exact, np.zeros(len(new), bool)])[order]
            wanted = np.concatenate([np.zeros(len(keys), bool), np.ones(len(new), bool)])[order]
            keys = np.concatenate([keys, new])[order]
        grid = _Grid(self.field, count, _unravel(cells, count), keys, values)
        if guarded:
            return grid
        corners = grid.corner_values()
        crossing = (corners.min(axis=(1, 2, 3)) < 0) & (corners.max(axis=(1, 2, 3)) >= 0)
        return _Grid(self.field, count, grid.cells[crossing], keys, values)


def _halved(corners: np.ndarray) -> np.ndarray:
    """(N, 3, 3, 3) values on the lattice of half the step, from (N, 2, 2, 2) corners, trilinear."""
    for axis in (1, 2, 3):
        first, last = np.take(corners, [0], axis), np.take(corners, [1], axis)
        corners = np.concatenate([first, 0.5 * (first + last), last], axis=axis)
    return corners


def _crossing_edges(keys: np.ndarray, values: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Indices of the lower and upper ends of grid edges between known points of unlike sign, and the edges' axes."""
    inside = values < 0
    low, high, axes = [], [], []
    for axis, stride in enumerate(((count + 1) ** 2, count + 1, 1)):
        coordinate = keys // stride % (count + 1)
        at = np.searchsorted(keys, keys + stride)
        at[at == len(keys)] = 0
        crosses = (keys[at] == keys + stride) & (coordinate < count) & (inside[at] != inside)
        low.append(np.flatnonzero(crosses))
        high.append(at[crosses])
        axes.append(np.full(len(low[-1]), axis))
    return np.concatenate(low), np.concatenate(high), np.concatenate(axes)


def _cells_around(lower: np.ndarray, axis: np.ndarray, count: int) -> np.ndarray:
    """Unique keys of the cells, at most four each, that share the edges from points `lower` along `axis`."""
    point = np.stack(np.unravel_index(lower, (count + 1,) * 3), axis=1)
    others = np.array([[1, 2], [0, 2], [0, 1]])[axis]
    around = []
    for first, second in np.ndindex(2, 2):
        cell = point.copy()
        np.put_along_axis(cell, others, np.take_along_axis(point, others, 1) - (first, second), 1)
        around.append(cell[((cell >= 0) & (cell < count)).all(axis=1)])
    return np.unique(_cell_keys(np.concatenate(around), count))


def _contour(grid: _Grid) -> tuple[np.ndarray, np.ndarray]:
    """Marching cubes on the sparse cells; vertices are shared, so there are no seams.

    VTK's filter for unstructured cells: skimage's works on a full grid, 4 GB at 1024 cells a side.
    """
    from vtkmodules.util.numpy_support import numpy_to_vtk, numpy_to_vtkIdTypeArray, vtk_to_numpy
    from vtkmodules.vtkCommonCore import vtkPoints, vtkVersion
    from vtkmodules.vtkCommonDataModel import VTK_VOXEL, vtkCellArray, vtkUnstructuredGrid
    from vtkmodules.vtkFiltersCore import vtkContour3DLinearGrid

    corner = _corner_keys(grid.cells, grid.count).reshape(-1, 8)
    used, index = np.unique(corner, return_inverse=True)
    # VTK counts a voxel's corners with x fastest; here z is.
    index = index.reshape(-1, 2, 2, 2).transpose(0, 3, 2, 1).reshape(-1, 8)
    points = vtkPoints()
    points.SetData(numpy_to_vtk(_positions(used, grid.count, grid.field), deep=True))
    voxels = vtkCellArray()
    offsets = np.arange(0, 8 * len(index) + 1, 8)
    voxels.SetData(
        numpy_to_vtkIdTypeArray(offsets.astype(np.int64), deep=True),
        numpy_to_vtkIdTypeArray(index.astype(np.int64).ravel(), deep=True),
    )
    data = vtkUnstructuredGrid()
    data.SetPoints(points)
    data.SetCells(VTK_VOXEL, voxels)
    scalars = numpy_to_vtk(grid.values[np.searchsorted(grid.keys, used)].astype(np.float64), deep=True)
    scalars.SetName("distance")
    data.GetPointData().SetScalars(scalars)
    contour = vtkContour3DLinearGrid()
    contour.SetInputData(data)
    contour.SetValue(0, 0.0)
    if vtkVersion().GetVTKMajorVersion() * 100 + vtkVersion().GetVTKMinorVersion() < 907:
        contour.SetMergePoints(True)  # later versions always share points, and say so as a warning
    contour.Update()
    mesh = contour.GetOutput()
    vertices = vtk_to_numpy(mesh.GetPoints().GetData()).astype(float)
    faces = vtk_to_numpy(mesh.GetPolys().GetConnectivityArray()).reshape(-1, 3).astype(np.int64)
    return vertices, faces[:, ::-1].copy()  # VTK turns its faces toward smaller values, inward


def _point_keys(points: np.ndarray, count: int) -> np.ndarray:
    return np.ravel_multi_index(points.T, (count + 1,) * 3)


def _cell_keys(cells: np.ndarray, count: int) -> np.ndarray:
    return np.ravel_multi_index(cells.T, (count,) * 3)


def _unravel(cell_keys: np.ndarray, count: int) -> np.ndarray:
    return np.stack(np.unravel_index(cell_keys, (count,) * 3), axis=1)


def _corner_keys(cells: np.ndarray, count: int) -> np.ndarray:
    return _point_keys((cells[:, None] + _CORNERS).reshape(-1, 3), count)


def _positions(keys: np.ndarray, count: int, field: Field) -> np.ndarray:
    points = np.stack(np.unravel_index(keys, (count + 1,) * 3), axis=1)
    return field.low + points * (field.side / count)


def _contains(keys: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Tell which wanted keys are among the sorted ones."""
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    return keys[at] == wanted


def project_to_zero_level(level: ZeroLevel, field: Field) -> tuple[np.ndarray, np.ndarray]:
    """Move the vertices onto the zero level by one Newton step along the gradient, which also gives their normals.

    Args:
        level: from `extract_zero_level`.
        field: the one it was extracted from.

    Returns:
        (V, 3) vertices, moved by at most half a cell, and their (V, 3) unit outward normals.
    """
    return _newton_step(level.vertices, field, largest=0.5 * level.cell)


def follow_zero_level(level: ZeroLevel, field: Field) -> tuple[ZeroLevel, np.ndarray]:
    """Move a mesh to the zero level of a slightly changed field, for live previews; the triangles stay.

    One Newton step along the gradient, which is where the implicit function theorem moves a point of the surface to first
    order in the change. A change of more than some millimetres is for `extract_zero_level`.

    Returns:
        the moved mesh and its (V, 3) unit outward normals.
    """
    vertices, normals = _newton_step(level.vertices, field, largest=LARGEST_FOLLOWED)
    return replace(level, vertices=vertices), normals


def _newton_step(vertices: np.ndarray, field: Field, largest: float) -> tuple[np.ndarray, np.ndarray]:
    value, gradient = field.distance_and_gradient(vertices)
    length = np.maximum(np.linalg.norm(gradient, axis=1, keepdims=True), 1e-6)
    normals = gradient / length
    return vertices + np.clip(-value[:, None] / length, -largest, largest) * normals, normals


def dense_zero_level(field: Field, cells: int = 256) -> tuple[np.ndarray, np.ndarray]:
    """The published way, for comparison: evaluate every grid point, then marching cubes; (V, 3) vertices, (F, 3) faces."""
    from skimage.measure import marching_cubes

    axis = np.linspace(field.low, field.low + field.side, cells + 1)
    volume = np.empty((cells + 1,) * 3, np.float32)
    for i, x in enumerate(axis):
        y, z = np.meshgrid(axis, axis, indexing="ij")
        volume[i] = field.distance(np.stack([np.full_like(y, x), y, z], axis=-1).reshape(-1, 3)).reshape(y.shape)
    vertices, faces, _, _ = marching_cubes(volume, 0.0, spacing=(field.side / cells,) * 3)
    return vertices + field.low, faces
