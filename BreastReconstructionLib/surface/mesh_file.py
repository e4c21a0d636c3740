"""Triangle meshes and point clouds on disk. Patient meshes are LPS millimetres and say so (`SPACE=LPS`)."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ..errors import CaseError
from ..geometry import RAS_TO_LPS


@dataclass(frozen=True)
class TriangleMesh:
    """A mesh in patient space, or, without faces, a point cloud.

    Attributes:
        vertices_ras: (V, 3) mm, RAS.
        faces: (F, 3).
        normals_ras: (V, 3) unit, or None.
        colors: (V, 3) uint8 RGB, or None.
        scalars: name -> (V,) float values a vertex.
    """

    vertices_ras: np.ndarray
    faces: np.ndarray
    normals_ras: np.ndarray | None = None
    colors: np.ndarray | None = None
    scalars: dict[str, np.ndarray] = field(default_factory=dict)


def write_ply(path: Path, mesh: TriangleMesh, space: str = "LPS") -> None:
    """Write binary PLY with the space named in a comment, as 3D Slicer reads it; replaces `path` in one step.

    Args:
        path: the file.
        mesh: vertices in RAS.
        space: 'LPS' for patient meshes; 'RAS' keeps the numbers as they are (clouds in the world frame).
    """
    to_space = RAS_TO_LPS if space == "LPS" else np.eye(3)
    columns = [(("x", "y", "z"), mesh.vertices_ras @ to_space.T, "f4")]
    if mesh.normals_ras is not None:
        columns.append((("nx", "ny", "nz"), mesh.normals_ras @ to_space.T, "f4"))
    if mesh.colors is not None:
        columns.append((("red", "green", "blue"), mesh.colors, "u1"))
    columns += [((name,), values[:, None], "f4") for name, values in mesh.scalars.items()]
    names, kinds = [], []
    for keys, _, kind in columns:
        names += list(keys)
        kinds += [kind] * len(keys)
    vertices = np.empty(len(mesh.vertices_ras), [(name, f"<{kind}") for name, kind in zip(names, kinds, strict=True)])
    for keys, values, _ in columns:
        for i, key in enumerate(keys):
            vertices[key] = values[:, i]
    words = {"f4": "float", "u1": "uchar"}
    header = ["ply", "format binary_little_endian 1.0", f"comment SPACE={space}", "comment unit millimetre"]
    if space != "LPS":
        header.remove("comment unit millimetre")
    header.append(f"element vertex {len(vertices)}")
    header += [f"property {words[kind]} {name}" for name, kind in zip(names, kinds, strict=True)]
    faces = np.empty(len(mesh.faces), [("count", "u1"), ("index", "<i4", 3)])
    faces["count"], faces["index"] = 3, mesh.faces
    header += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header", ""]
    temporary = path.with_name(path.name + ".partial")
    with open(temporary, "wb") as file:
        file.write("\n".join(header).encode("ascii") + vertices.tobytes() + faces.tobytes())
    os.replace(temporary, path)


def read_written_ply(path: Path) -> TriangleMesh | None:
    """Read a PLY as `write_ply` writes it, several times faster than a general reader; None if it is of another layout."""
    content = path.read_bytes()
    end = content.find(b"end_header\n", 0, 4096)
    lines = content[: max(end, 0)].decode("ascii", "replace").splitlines()
    if end < 0 or lines[:2] != ["ply", "format binary_little_endian 1.0"] or not lines[2].startswith("comment SPACE="):
        return None
    kinds = {"float": "<f4", "uchar": "u1"}
    counts = [int(line.split()[2]) for line in lines if line.startswith("element ")]
    columns = [line.split()[1:] for line in lines if line.startswith("property ") and "list" not in line]
    start = end + len(b"end_header\n")
    vertices = np.frombuffer(content, [(name, kinds[kind]) for kind, name in columns], counts[0], start)
    faces = np.frombuffer(content, [("count", "u1"), ("index", "<i4", 3)], counts[1], start + vertices.nbytes)
    signs = np.diag(np.eye(3) if lines[2].endswith("RAS") else RAS_TO_LPS)

    def together(names: tuple[str, ...], kind, factors: np.ndarray) -> np.ndarray | None:
        if names[0] not in vertices.dtype.names:
            return None
        values = np.empty((len(vertices), len(names)), kind)
        for i, name in enumerate(names):
            np.multiply(vertices[name], factors[i], out=values[:, i], casting="unsafe")
        return values

    known = {"x", "y", "z", "nx", "ny", "nz", "red", "green", "blue"}
    return TriangleMesh(
        together(("x", "y", "z"), float, signs),
        faces["index"].astype(int),
        together(("nx", "ny", "nz"), float, signs),
        together(("red", "green", "blue"), np.uint8, np.ones(3, np.uint8)),
        {name: vertices[name].astype(float) for name in vertices.dtype.names if name not in known},
    )


def read_mesh(path: Path) -> TriangleMesh:
    """Read PLY, OBJ or STL; vertices come back in RAS. Files without `SPACE=RAS` are taken as LPS, as Slicer does.

    Raises:
        CaseError: no mesh can be read from the file.
    """
    if path.suffix.lower() == ".ply" and path.is_file() and (written := read_written_ply(path)) is not None:
        return written
    import trimesh

    try:
        loaded = trimesh.load(path, process=False)
        header = path.read_bytes()[:4096]
    except Exception as error:  # trimesh raises many kinds for broken files
        raise CaseError(f"{path.name} cannot be read as a mesh; export it again as PLY, OBJ or STL.") from error
    vertices = np.asarray(loaded.vertices, float)
    from_space = np.eye(3) if b"SPACE=RAS" in header else RAS_TO_LPS
    raw = loaded.metadata.get("_ply_raw", {}).get("vertex", {}).get("data")
    scalars, colors, normals = {}, None, None
    if raw is not None and raw.dtype.names:
        known = {"x", "y", "z", "nx", "ny", "nz", "red", "green", "blue", "alpha"}
        scalars = {name: np.asarray(raw[name], float).ravel() for name in raw.dtype.names if name not in known}
        if "red" in raw.dtype.names:
            colors = np.column_stack([raw[name] for name in ("red", "green", "blue")])
        if "nx" in raw.dtype.names:
            normals = np.column_stack([raw[name] for name in ("nx", "ny", "nz")]).astype(float) @ from_space
    faces = np.asarray(getattr(loaded, "faces", np.empty((0, 3), int)))
    return TriangleMesh(vertices @ from_space, faces, normals, colors, scalars)
