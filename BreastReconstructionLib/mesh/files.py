"""Triangle meshes and point clouds on disk. Patient meshes are LPS millimetres and say so (`SPACE=LPS`)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ..core.errors import CaseError
from ..core.files import replacing
from ..geometry.transforms import RAS_TO_LPS, Frame
from .mesh import TriangleMesh, names_own_vertices

# Beside SPACE=RAS, since no space that Slicer knows is meant.
WORLD_COMMENT = "comment frame world, no unit"


def write_ply(path: Path, mesh: TriangleMesh) -> None:
    """Write binary PLY with the space named in a comment, as 3D Slicer reads it; replaces `path` in one step.

    Args:
        path: the file.
        mesh: of the patient frame, which is written as LPS, or of the world frame, whose numbers stay as they are.

    Raises:
        ValueError: a mesh of the model frame; move it to the patient frame first.
    """
    if mesh.frame is Frame.MODEL:
        raise ValueError("a mesh of the model frame has no millimetres; move it to the patient frame before it is written")
    patient = mesh.frame is Frame.PATIENT
    to_space = RAS_TO_LPS if patient else np.eye(3)
    columns: list[tuple[tuple[str, ...], np.ndarray, str]] = [(("x", "y", "z"), mesh.vertices @ to_space.T, "f4")]
    if mesh.normals is not None:
        columns.append((("nx", "ny", "nz"), mesh.normals @ to_space.T, "f4"))
    if mesh.colors is not None:
        columns.append((("red", "green", "blue"), mesh.colors, "u1"))
    columns += [((name,), values[:, None], "f4") for name, values in mesh.scalars.items()]
    names, kinds = [], []
    for keys, _, kind in columns:
        names += list(keys)
        kinds += [kind] * len(keys)
    vertices = np.empty(len(mesh.vertices), [(name, f"<{kind}") for name, kind in zip(names, kinds, strict=True)])
    for keys, values, _ in columns:
        for i, key in enumerate(keys):
            vertices[key] = values[:, i]
    words = {"f4": "float", "u1": "uchar"}
    said = ["comment SPACE=LPS", "comment unit millimetre"] if patient else ["comment SPACE=RAS", WORLD_COMMENT]
    header = ["ply", "format binary_little_endian 1.0", *said]
    header.append(f"element vertex {len(vertices)}")
    header += [f"property {words[kind]} {name}" for name, kind in zip(names, kinds, strict=True)]
    faces = np.empty(len(mesh.faces), [("count", "u1"), ("index", "<i4", 3)])
    faces["count"], faces["index"] = 3, mesh.faces
    header += [f"element face {len(faces)}", "property list uchar int vertex_indices", "end_header", ""]
    with replacing(path) as temporary:
        temporary.write_bytes("\n".join(header).encode("ascii") + vertices.tobytes() + faces.tobytes())


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

    held = vertices.dtype.names or ()

    def together(names: tuple[str, ...], kind: type, factors: np.ndarray) -> np.ndarray:
        values: np.ndarray = np.empty((len(vertices), len(names)), kind)
        for i, name in enumerate(names):
            np.multiply(vertices[name], factors[i], out=values[:, i], casting="unsafe")
        return values

    known = {"x", "y", "z", "nx", "ny", "nz", "red", "green", "blue"}
    return TriangleMesh(
        together(("x", "y", "z"), float, signs),
        faces["index"].astype(int),
        Frame.WORLD if WORLD_COMMENT in lines else Frame.PATIENT,
        together(("nx", "ny", "nz"), float, signs) if "nx" in held else None,
        together(("red", "green", "blue"), np.uint8, np.ones(3, np.uint8)) if "red" in held else None,
        {name: vertices[name].astype(float) for name in held if name not in known},
    )


def read_mesh(path: Path) -> TriangleMesh:
    """Read PLY, OBJ or STL; patient meshes come back in RAS. Files without `SPACE=RAS` are taken as LPS, as Slicer does.

    Raises:
        CaseError: no mesh can be read from the file.
    """
    import trimesh

    try:
        if path.suffix.lower() == ".ply" and path.is_file() and (written := read_written_ply(path)) is not None:
            return _checked(written, path)
        loaded: Any = trimesh.load(path, process=False)
        header = path.read_bytes()[:4096]
    except CaseError:
        raise
    except Exception as error:  # trimesh raises many kinds for broken files
        raise CaseError(f"{path.name} cannot be read as a mesh; export it again as PLY, OBJ or STL.") from error
    vertices = np.asarray(loaded.vertices, np.float64)
    from_space: np.ndarray = np.eye(3) if b"SPACE=RAS" in header else RAS_TO_LPS
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
    frame = Frame.WORLD if WORLD_COMMENT.encode() in header else Frame.PATIENT
    return _checked(TriangleMesh(vertices @ from_space, faces, frame, normals, colors, scalars), path)


def _checked(mesh: TriangleMesh, path: Path) -> TriangleMesh:
    """The mesh, if its triangles name vertices that it has."""
    if not names_own_vertices(mesh.vertices, mesh.faces):
        raise CaseError(f"{path.name} is damaged: its triangles name vertices that it does not hold; export it again.")
    return mesh
