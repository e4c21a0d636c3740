"""From a radiograph to the bone: the network's look, the fit of the shape model, and what speaks against the result."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from ..core.errors import FitError
from ..core.progress import Progress
from ..fields.evaluation import Shape, derivatives
from ..geometry.radiograph import LATERAL_TURN, Radiograph
from ..geometry.transforms import Frame, Similarity, model_to_patient
from ..mesh.extraction import cells_for, extract_zero_level
from ..mesh.mesh import TriangleMesh, vertex_normals
from ..mesh.segments import largest_body
from ..shape_model.model import ShapeModel
from ..shape_model.sampling import mesh_of_code
from .fit import BoneFit, View, fit_bone
from .model_file import RadiographModel
from .network import Seen, look

# Of the bone's contrast: what a fit explains. Below the first it is not this bone, below the second it is doubtful.
NOT_THIS_BONE, DOUBTFUL = 0.6, 0.9
# Of the bone's outline, outside of the picture; of pixels that the robust kernel leaves out.
CUT, STRANGE = 0.02, 0.08
UNUSUAL = 2.0
TO_PATIENT = model_to_patient(1.0)


@dataclass(frozen=True)
class Reconstructed:
    """A bone from radiographs.

    Attributes:
        bone: closed, patient space: the first picture's axes taken as left, superior, anterior; scalar `uncertainty_mm`.
        in_picture: (V, 3) its vertices in the first picture's frame.
        fit: see BoneFit; None by the network alone.
        pose: from the shape model's frame to the picture's.
        depth_uncertainty_mm: standard deviation along the beam, mean over the surface.
        warnings: what speaks against it.
    """

    bone: TriangleMesh
    in_picture: np.ndarray
    fit: BoneFit | None
    pose: Similarity
    depth_uncertainty_mm: float
    warnings: tuple[str, ...]

    @property
    def explained(self) -> float:
        """Share of the bone's contrast that the fit explains; NaN by the network alone."""
        return float("nan") if self.fit is None else self.fit.explained


def reconstruct(
    picture: Radiograph,
    lateral: Radiograph | None,
    model: RadiographModel,
    shape: ShapeModel,
    by_network: bool = False,
    detail_mm: float = 2.0,
    progress: Progress | None = None,
) -> Reconstructed:
    """Return the bone that a radiograph shows.

    Args:
        picture: bone bright, or dark: that is found out.
        lateral: a second one, the patient turned by a quarter to the left; None for one only.
        model: the network.
        shape: the shape model that goes with it.
        by_network: the occupancy that the network sees, instead of the shape model's fit.
        detail_mm: size of the triangles.
        progress: told how far it is.

    Raises:
        FitError: this bone is not in the picture.
    """
    progress = progress or Progress()
    progress(0.0, "looking at the radiograph")
    seen, picture, inverted = _oriented(picture, model, shape)
    notes = ["The grey values were inverted (bone dark); they were turned."] if inverted else []
    if by_network:
        return _of_occupancy(seen, detail_mm, notes)
    views = [View(picture, np.eye(3))]
    if lateral is not None:
        views.append(View(replace(lateral, attenuation=-lateral.attenuation) if inverted else lateral, LATERAL_TURN))
    fit = fit_bone(views, shape, seen.pose, seen.u.clone(), model.cortex_mm, progress.part(0.1, 0.85))
    if fit.explained < NOT_THIS_BONE:
        raise FitError(
            f"The radiograph does not look like a {model.bone}: the fitted bone explains {100 * max(fit.explained, 0):.0f} % of "
            "what is seen where it should lie. Choose the part of the picture with the bone, or another model."
        )
    progress(0.9, "surface")
    mesh = mesh_of_code(shape, fit.code, detail_mm / fit.pose.scale).mesh
    along, normal = _deviations(mesh, fit, shape, model.posterior_factor)
    in_picture = fit.pose.apply(mesh.vertices)
    bone = mesh.moved(TO_PATIENT.after(fit.pose), Frame.PATIENT)
    bone = replace(bone, scalars={"uncertainty_mm": normal})
    notes += _warnings(views[0].picture, in_picture, fit, model.bone)
    return Reconstructed(bone, in_picture, fit, fit.pose, float(np.sqrt((along**2).mean())), tuple(notes))


def _oriented(picture: Radiograph, model: RadiographModel, shape: ShapeModel) -> tuple[Seen, Radiograph, bool]:
    """What the network sees in the picture as it is, or inverted, whichever looks more like a bone."""
    turned = replace(picture, attenuation=-picture.attenuation)
    mean = mesh_of_code(shape, shape.latent_mean, 0.04).mesh.vertices
    likeness = []
    for one in (picture, turned):
        seen = look(model.network, one)
        likeness.append((_likeness(seen, mean), seen, one))
    best = max((0, 1), key=lambda k: likeness[k][0])
    return likeness[best][1], likeness[best][2], best == 1


def _likeness(seen: Seen, mean: np.ndarray) -> float:
    """How much brighter the picture is inside the outline of the mean shape in the pose that was seen than around it."""
    from scipy import ndimage

    values = seen.picture.attenuation
    at, kept = seen.picture.within(seen.pose.apply(mean))
    inside = np.zeros(values.shape, bool)
    inside[at[kept, 1], at[kept, 0]] = True
    inside = ndimage.binary_closing(inside, iterations=2)
    around = ndimage.binary_dilation(inside, iterations=6) & ~ndimage.binary_dilation(inside, iterations=2)
    return float(values[inside].mean() - values[around].mean()) if inside.any() and around.any() else -np.inf


def _of_occupancy(seen: Seen, detail_mm: float, notes: list[str]) -> Reconstructed:
    half = 0.5 * seen.network.frame.side_mm
    field = seen.field()
    level = extract_zero_level(field, cells_for(detail_mm / half, field.side))
    whole = largest_body(TriangleMesh(half * level.vertices, level.faces, Frame.MODEL))
    whole = replace(whole, normals=vertex_normals(whole.vertices, whole.faces))
    notes = [*notes, "This is what the network sees, without a shape model; its uncertainty is not known."]
    bone = whole.moved(TO_PATIENT, Frame.PATIENT)
    return Reconstructed(bone, whole.vertices, None, seen.pose, float("nan"), tuple(notes))


def _deviations(mesh: TriangleMesh, fit: BoneFit, shape: ShapeModel, factor: float) -> tuple[np.ndarray, np.ndarray]:
    """(V,) standard deviations along the beam by pose alone, and along the normal by all; mm."""
    at = derivatives(Shape.of(shape, fit.code), torch.as_tensor(mesh.vertices, dtype=torch.float32))
    slope = at.by_point.norm(dim=1, keepdim=True).numpy()
    count = len(fit.state.u)
    normals = at.by_point.numpy() / slope @ fit.pose.rotation.T
    arm = fit.pose.scale * mesh.vertices @ fit.pose.rotation.T
    rows = np.zeros((len(arm), len(fit.covariance)))
    rows[:, :count] = -at.by_code.numpy() / slope * fit.pose.scale
    rows[:, count : count + 3] = np.cross(arm, normals)
    rows[:, count + 3] = (arm * normals).sum(axis=1)
    rows[:, count + 4 : count + 6] = normals[:, :2]
    normal = np.sqrt(np.einsum("ij,jk,ik->i", rows, fit.covariance, rows).clip(0))
    beam = np.zeros_like(rows)
    beam[:, count : count + 3] = np.cross(arm, np.array([0.0, 0.0, 1.0]))
    beam[:, count + 3] = arm[:, 2]
    along = np.sqrt(np.einsum("ij,jk,ik->i", beam, fit.covariance, beam).clip(0))
    return factor * along, np.hypot(factor * normal, shape.expression_error * fit.pose.scale)


def _warnings(picture: Radiograph, in_picture: np.ndarray, fit: BoneFit, bone: str) -> list[str]:
    notes = []
    at, inside = picture.within(in_picture)
    inside[inside] = picture.exposed()[at[inside, 1], at[inside, 0]]
    if (cut := float(1 - inside.mean())) > CUT:
        notes.append(f"{100 * cut:.0f} % of the {bone} lies outside of the picture or the beam: that part is the model's guess.")
    if fit.explained < DOUBTFUL:
        notes.append(f"The fitted bone explains only {100 * fit.explained:.0f} % of what is seen: look at the overlay first.")
    if fit.left_out > STRANGE:
        notes.append(
            f"{100 * fit.left_out:.0f} % of the pixels do not fit (metal, a second bone, writing?): look at the overlay first."
        )
    if fit.form_deviations > UNUSUAL:
        notes.append(
            f"The form is unusual ({fit.form_deviations:.1f} deviations of the population): another bone, or the other side?"
        )
    return notes
