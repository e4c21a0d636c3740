"""Training data of any organ: segmentations or closed meshes, checked, and brought into a common frame.

Without landmarks, an organ lies in its own frame: the centre of its surface is the origin, half a model unit is the root mean
square distance of the surface from it, and the axes are the patient's. With landmarks, the similarities that bring them
together (generalised Procrustes; Gower 1975) are applied on top.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..core.errors import LandmarkError, ShapeModelError
from ..core.files import disk_errors, replacing
from ..core.progress import Progress
from ..geometry.segmentation import read_segmentation
from ..geometry.transforms import Similarity, fit_similarity
from ..landmarks.curves import read_points
from ..mesh.boundary import boundary_loops
from ..mesh.files import read_mesh
from ..mesh.mesh import TriangleMesh, connected_parts, sample_surface
from ..mesh.own_frame import own_frame
from ..mesh.patch import signed_volume
from ..mesh.segments import ISLAND_SHARE, SegmentSurface, surface_of_segment
from ..mesh.signed_distance import sample_distances, signed_distance
from .training_data import FIELD_CLAMP, Subject, mirrored_field, places, write_subjects

SEGMENTATIONS = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd", ".dcm")
MESHES = (".ply", ".stl", ".obj")
LANDMARKS = ".mrk.json"
SURFACE_POINTS, POINTS = 5000, 12_000
MM_PER_UNIT = (2.0, 2000.0)
# A subject is another organ if its field differs from the others' mean by so much more than theirs do.
OTHER_ORGAN, FEWEST_TO_JUDGE = 4.0, 6
MIRRORED, BEYOND_CHANCE = -0.7, 2.0


@dataclass(frozen=True)
class OrganSource:
    """What is taken from each file.

    Attributes:
        organ: its name.
        segments: names or labels that make it up together; empty for all.
        parts: of how many closed bodies it consists; None for as many as the first file has.
    """

    organ: str
    segments: tuple[str, ...] = ()
    parts: int | None = None


def read_organ(path: Path, source: OrganSource) -> SegmentSurface:
    """Return the closed bodies of an organ in a segmentation or mesh.

    Raises:
        VolumeError, CaseError: the file cannot be read, or holds something else; see `read_segmentation`, `surface_of_segment`.
        ShapeModelError: a mesh that is not closed, or of another number of bodies.
    """
    if path.name.lower().endswith(MESHES):
        return bodies_of_mesh(read_mesh(path), path.name, source.parts)
    segmentation = read_segmentation(path)
    return surface_of_segment(segmentation.mask(source.segments, path.name), segmentation.grid, path.name, source.parts)


def bodies_of_mesh(mesh: TriangleMesh, name: str, parts: int | None = None) -> SegmentSurface:
    """Return the closed bodies of a mesh, each turned outward by itself.

    Vertices at one place are made one first. A closed mesh may still be turned inside out, wholly or one body of it; its sign
    of distance would be wrong there, and a test for closedness does not see it.

    Raises:
        ShapeModelError: a hole, or another number of bodies.
    """
    import trimesh

    welded = trimesh.Trimesh(mesh.vertices, mesh.faces, process=False)
    welded.merge_vertices()
    welded.update_faces(welded.nondegenerate_faces())
    welded.remove_unreferenced_vertices()
    whole = TriangleMesh(np.asarray(welded.vertices, float), np.asarray(welded.faces, np.int64), mesh.frame)
    if len(whole.faces) < 20:
        raise ShapeModelError(f"{name} holds {len(whole.faces)} triangles; give the closed surface of the organ.")
    labels = connected_parts(whole.faces, len(whole.vertices))
    bodies, notes = [], []
    for label in range(labels.max() + 1):
        body = whole.part(labels == label)
        if boundary_loops(body.faces):
            raise ShapeModelError(f"The mesh {name} has a hole; close it, or give the segmentation that it was made from.")
        consistent = body.as_trimesh()
        if not consistent.is_winding_consistent:
            consistent.fix_normals()
            body = replace(body, faces=np.asarray(consistent.faces, np.int64))
            notes.append("the triangles of a body looked to both sides and were turned")
        bodies.append(body)
    bodies.sort(key=lambda body: -abs(signed_volume(body.vertices, body.faces)))
    volumes = [abs(signed_volume(body.vertices, body.faces)) for body in bodies]
    kept = [body for body, volume in zip(bodies, volumes, strict=True) if volume > ISLAND_SHARE * volumes[0]]
    turned = []
    for body in kept:
        if signed_volume(body.vertices, body.faces) < 0:
            body = replace(body, faces=body.faces[:, ::-1])
            notes.append("a body was turned inside out, and was turned back")
        around = [other for other in turned if _inside(body, other)]
        if around:
            notes.append("a cavity was filled")
        else:
            turned.append(body)
    if parts is not None and len(turned) != parts:
        raise ShapeModelError(f"{name} holds {len(turned)} bodies where {parts} should be; is it another organ, or a part of it?")
    return SegmentSurface(tuple(turned), tuple(np.zeros(len(body.vertices), bool) for body in turned), tuple(notes))


def _inside(body: TriangleMesh, other: TriangleMesh) -> bool:
    low, high = other.vertices.min(axis=0), other.vertices.max(axis=0)
    if not ((body.vertices[:1] > low) & (body.vertices[:1] < high)).all():
        return False
    return bool(signed_distance(body.vertices[:1], other.vertices, other.faces)[0] < 0)


def organ_files(folder: Path) -> list[Path]:
    """Return the segmentations and meshes of a folder, by name.

    Raises:
        ShapeModelError: there is no such folder, or nothing in it.
    """
    if not folder.is_dir():
        raise ShapeModelError(f"The folder {folder.name} does not exist; give the folder that holds the segmentations.")
    found = sorted(path for path in folder.iterdir() if path.name.lower().endswith((*SEGMENTATIONS, *MESHES)))
    if len(found) < 2:
        raise ShapeModelError(
            f"{folder.name} holds {len(found)} segmentations or meshes (.nii.gz, .nrrd, .dcm, .ply, .stl, .obj); training needs "
            "two at least, better fifty."
        )
    return found


def prepare_organ(
    folder: Path, output: Path, source: OrganSource, npz: Path | None = None, progress: Progress | None = None
) -> list[str]:
    """Write every organ of a folder as training data; returns what was repaired, in words.

    Args:
        folder: of segmentations or meshes, each with a markups file of the same stem beside it if there are landmarks.
        output: HDF5 to write.
        source: what to take from each file.
        npz: folder for DeepSDF's layout too: one npz each, `pos` and `neg` (N, 4) of x, y, z, signed distance; None for none.
        progress: told a file.

    Raises:
        ShapeModelError, VolumeError, CaseError, LandmarkError: a file that cannot be used: which one, why, and what to do.
    """
    progress, notes, subjects = progress or Progress(), [], []
    files = organ_files(folder)
    for number, path in enumerate(files):
        progress(0.9 * number / len(files), f"{source.organ} {number + 1} of {len(files)}")
        found = read_organ(path, source)
        if any(part.any() for part in found.cut):
            raise ShapeModelError(
                f"The {source.organ} in {path.name} is cut off by the border of the volume or by a flat cut; a model learns "
                "whole organs only: leave this file out."
            )
        notes.extend(f"{path.name}: {words}" for words in found.notes)
        source = replace(source, parts=source.parts or len(found.bodies))
        if len(found.bodies) != source.parts:
            raise ShapeModelError(
                f"{path.name} holds {len(found.bodies)} bodies where {source.parts} should be: a part of the "
                f"{source.organ} is missing."
            )
        subjects.append(organ_subject(path, found.mesh, source))
    subjects = _by_landmarks(subjects)
    _judge(subjects)
    write_subjects(output, subjects)
    if npz is not None:
        write_npz(npz, subjects)
    return notes


def organ_subject(path: Path, mesh: TriangleMesh, source: OrganSource) -> Subject:
    """Return one organ, in its own frame, as a subject.

    Raises:
        ShapeModelError: its size cannot be in millimetres, or it does not fit the model's cube.
    """
    to_model = own_frame(mesh.vertices, mesh.faces)
    if not MM_PER_UNIT[0] < 1.0 / to_model.scale < MM_PER_UNIT[1]:
        raise ShapeModelError(
            f"{path.name} is {np.ptp(mesh.vertices, axis=0).max():.3g} mm long: it is probably not in millimetres."
        )
    vertices = to_model.apply(mesh.vertices)
    if np.abs(vertices).max() > 1.0:
        raise ShapeModelError(f"{path.name} is too long and thin for the model's cube; leave it out, or give its pieces apart.")
    rng = np.random.default_rng([43, len(vertices)])
    surface, normals = sample_surface(vertices, mesh.faces, SURFACE_POINTS, rng)
    near, distances = sample_distances(vertices, mesh.faces, POINTS, rng)
    stem = path.name.split(".")[0]
    beside = path.with_name(stem + LANDMARKS)
    marks = read_points(beside) if beside.is_file() else {}
    return Subject(
        stem,
        to_model.apply(np.array([marks[name] for name in sorted(marks)]).reshape(-1, 3)),
        surface,
        normals,
        1.0 / to_model.scale,
        near,
        distances,
        truth={"volume_ml": np.array(signed_volume(mesh.vertices, mesh.faces) / 1000.0)},
        field=signed_distance(places(), vertices, mesh.faces),
        organ=source.organ,
        landmark_names=tuple(sorted(marks)),
        parts=source.parts or 1,
    )


def _by_landmarks(subjects: list[Subject]) -> list[Subject]:
    """Bring subjects together by their landmarks, if they have any."""
    names = subjects[0].landmark_names
    for other in subjects[1:]:
        if other.landmark_names != names:
            different = sorted(set(names) ^ set(other.landmark_names))
            raise LandmarkError(
                f"{subjects[0].name} and {other.name} do not have the same landmarks ({', '.join(different)}); place the "
                "same on all."
            )
    if len(names) < 3:
        return subjects
    mean = np.mean([subject.landmarks for subject in subjects], axis=0)
    for _ in range(5):
        moves = [fit_similarity(subject.landmarks, mean) for subject in subjects]
        moved = np.mean([move.apply(subject.landmarks) for move, subject in zip(moves, subjects, strict=True)], axis=0)
        mean = fit_similarity(moved, mean).apply(moved)
    return [_moved(subject, move) for subject, move in zip(subjects, moves, strict=True)]


def _moved(subject: Subject, move: Similarity) -> Subject:
    """A subject under a similarity of the model frame; what was sampled at fixed places is lost."""
    return replace(
        subject,
        landmarks=move.apply(subject.landmarks),
        surface_points=move.apply(subject.surface_points),
        surface_normals=move.apply_directions(subject.surface_normals),
        mm_per_unit=subject.mm_per_unit / move.scale,
        points=None if subject.points is None else move.apply(subject.points),
        distances=None if subject.distances is None else move.scale * subject.distances,
        field=None,
    )


def _judge(subjects: list[Subject]) -> None:
    """Find what is no organ of this kind among enough subjects.

    Raises:
        ShapeModelError: another organ, or a mirrored volume.
    """
    if len(subjects) < FEWEST_TO_JUDGE or any(subject.field is None for subject in subjects):
        return
    fields = np.stack([subject.field for subject in subjects if subject.field is not None])
    off = np.sqrt(((fields - np.median(fields, axis=0)) ** 2).mean(axis=1))
    usual, mirrored = float(np.median(off)), _mirrored(fields)
    for number, subject in enumerate(subjects):
        if mirrored[number]:
            raise ShapeModelError(
                f"{subject.name} looks mirrored: left and right exchanged, it is like the others. Check its orientation, "
                "or leave it out."
            )
        if off[number] > OTHER_ORGAN * usual:
            raise ShapeModelError(
                f"{subject.name} is {off[number] * subject.mm_per_unit:.0f} mm from the mean of the others, which differ by "
                f"{usual * subject.mm_per_unit:.0f} mm: probably another organ. Leave it out, or choose the right segment."
            )


def _mirrored(fields: np.ndarray) -> np.ndarray:
    """(S,) True for (S, G) fields in which left and right differ as they do in the others, but the other way round.

    The difference of a field from its mirror image, along the mean of the others' differences: about 1, mirrored about -1. Of 300
    lungs, none was below -0.65. Where left and right do not differ beyond chance, nothing can be said.
    """
    near = fields.clip(-FIELD_CLAMP, FIELD_CLAMP)
    odd = np.stack([0.5 * (field - mirrored_field(field)) for field in near])
    found = np.zeros(len(fields), bool)
    for number in range(len(fields)):
        mean = np.median(np.delete(odd, number, axis=0), axis=0)
        size, spread = np.sqrt((mean**2).mean()), np.sqrt(((odd - mean) ** 2).mean())
        if size > BEYOND_CHANCE * spread / np.sqrt(len(fields)):
            found[number] = (odd[number] @ mean) / (mean @ mean) < MIRRORED
    return found


def write_npz(folder: Path, subjects: list[Subject]) -> None:
    """Write one npz a subject in DeepSDF's layout (Park et al. 2019), model units."""
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for subject in subjects:
            assert subject.points is not None
            rows = np.column_stack([subject.points, subject.distances]).astype(np.float32)
            with replacing(folder / f"{subject.name}.npz") as temporary, temporary.open("wb") as file:
                np.savez_compressed(file, pos=rows[rows[:, 3] >= 0], neg=rows[rows[:, 3] < 0])
