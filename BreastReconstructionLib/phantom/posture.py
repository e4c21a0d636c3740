"""What else may be done with a phantom body: laid on its back, given its twin without breasts, changed by a known volume.

All are functions of the (S, 3) skin of the upper body in model axes (+x patient's left, +y superior, +z anterior), mm.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from ..geometry.transforms import MODEL_AXES_TO_RAS
from ..mesh.boundary import boundary_loops
from ..mesh.patch import Patch, closed_between, signed_volume
from .basis import load_torso_basis
from .deformation import Breast, Deformation, breast_faces, breast_height, diffused, pose, smoothstep, volume_integral
from .torso import Torso, TorsoParameters, make_torso, torso_of_body
from .variation import Variation, landmark_vertices

# MakeHuman's smallest cup still has a breast; this much of the step from the average to the smallest cup farther, the chest
# is straight in profile and round across.
TWIN_BEYOND = 0.3
# Of a breast's height above the chest: what its summit falls back and to the side when the patient lies.
FALLS_BACK, FALLS_ASIDE = 0.45, 0.8
LARGEST_FALL_MM = 70.0
# Of a breast's height: what its summit hangs forward, and up from where it sags to, when the patient lies on the front.
HANGS_FORWARD, HANGS_UP, LARGEST_HANG_MM = 0.45, 0.25, 60.0


@dataclass(frozen=True)
class Body:
    """What makes a phantom's torso; see torso.make_torso."""

    parameters: TorsoParameters
    deformation: Deformation | None = None
    variation: Variation | None = None

    def torso(self) -> Torso:
        """Evaluate it."""
        return make_torso(self.parameters, self.deformation, self.variation)

    def twin(self) -> Torso:
        """Return the same body with breasts of no volume: the wall that no interpolation knows.

        Cup size is linear in MakeHuman's shapes below the average, so it can be carried on below the smallest.
        """
        still = None if self.deformation is None else replace(self.deformation, left=Breast(), right=Breast())
        own = (self.parameters.left, self.parameters.right)
        flat = TorsoParameters(*({**side, **_without_breast(side)} for side in own))
        return make_torso(flat, still, self.variation)


def body_of(sampled: tuple) -> Body:
    """Return the body of what a sampler of torso.POPULATIONS returned."""
    return Body(*sampled[1:])


def _without_breast(side: dict[str, float]) -> dict[str, float]:
    local = {name: 0.0 for name in side if name.startswith(("breast-", "nipple-"))}
    return {**local, "cupsize": -0.5 * TWIN_BEYOND}


def twin_volume_ml(torso: Torso, twin: Torso) -> dict[str, float]:
    """Return the exact volume of each breast, 'left' and 'right': between a body's skin and its twin's, within the boundary of
    deformation.breast_truth.
    """
    basis, found = load_torso_basis(), {}
    for side, left in (("left", True), ("right", False)):
        faces = breast_faces(basis, left)
        patch = Patch(torso.body_ras, faces, boundary_loops(faces)[0], {})
        found[side] = signed_volume(*closed_between(patch, twin.body_ras)) / 1000.0
    return found


def lying(body_mm: np.ndarray, fall: float = 1.0) -> np.ndarray:
    """Return the skin of a patient who lies on the back: breasts fall aside, the abdomen sinks, arms go up.

    Chest wall, sternum and ribs stay where they are.

    Args:
        body_mm: (S, 3) standing.
        fall: share of the whole fall.
    """
    basis = load_torso_basis()
    result, marks = body_mm.copy(), body_mm[landmark_vertices(basis)]
    for left, sign in ((True, 1.0), (False, -1.0)):
        inside, height = breast_height(body_mm, left, basis)
        fallen = np.minimum(height, LARGEST_FALL_MM / FALLS_ASIDE)
        moved = fall * fallen[:, None] * np.array([FALLS_ASIDE * sign, 0.0, -FALLS_BACK])
        result[inside] += diffused(moved, basis, left)
    navel = marks[1]
    low = 1.0 - smoothstep(body_mm[:, 1], navel[1] - 10.0, navel[1] + 95.0)  # below the costal arch
    front = smoothstep(body_mm[:, 2], np.median(body_mm[:, 2]), navel[2])
    result[:, 2] -= fall * 18.0 * low * front
    return pose(result, marks, Deformation(arms_degrees=25.0 * fall))


def prone(body_mm: np.ndarray, hang: float = 1.0) -> np.ndarray:
    """Return the skin of a patient who lies on the front in a breast coil: breasts hang into its openings, arms go up.

    Args:
        body_mm: (S, 3) standing.
        hang: share of the whole hanging.
    """
    basis = load_torso_basis()
    result, marks = body_mm.copy(), body_mm[landmark_vertices(basis)]
    for left in (True, False):
        inside, height = breast_height(body_mm, left, basis)
        hung = hang * np.minimum(height, LARGEST_HANG_MM / HANGS_FORWARD)
        result[inside] += diffused(hung[:, None] * np.array([0.0, HANGS_UP, HANGS_FORWARD]), basis, left)
    return pose(result, marks, Deformation(arms_degrees=25.0 * hang))


def at_visit(torso: Torso, visit: int, added_ml: float = 0.0, lifted_mm: float = 0.0) -> Torso:
    """Return the torso of a body at another visit: a posture of the day, and what changed of the left breast.

    Args:
        torso: at visit 0.
        visit: 0 keeps the posture; others hold arms and shoulders a little otherwise.
        added_ml: by which the left breast grew.
        lifted_mm: how far its nipple was lifted.
    """
    if not visit and not added_ml and not lifted_mm:
        return torso
    body = torso.body_ras @ MODEL_AXES_TO_RAS
    if added_ml or lifted_mm:
        body = changed(body, True, added_ml, lifted_mm)
    if visit:
        rng = np.random.default_rng([41, visit])
        marks = body[landmark_vertices(load_torso_basis())]
        stance = Deformation(arms_degrees=float(rng.normal(0.0, 4.0)), shoulders_forward_degrees=float(rng.normal(0.0, 1.5)))
        body = pose(body, marks, stance)
    return torso_of_body(body)


def changed(body_mm: np.ndarray, left: bool, added_ml: float, lifted_mm: float = 0.0) -> np.ndarray:
    """Return the skin after one breast changed by an exact volume, and its nipple was lifted.

    Args:
        body_mm: (S, 3).
        left: which breast.
        added_ml: between the skin before and after.
        lifted_mm: how far skin about the nipple moves up over the breast.
    """
    basis = load_torso_basis()
    inside, height = breast_height(body_mm, left, basis)
    share = height / max(height.max(), 1e-6)
    faces = breast_faces(basis, left)

    def grown(by_mm: float) -> np.ndarray:
        result = body_mm.copy()
        moved = by_mm * share[:, None] * np.array([0.0, -0.1, 1.0])
        result[inside] += diffused(moved, basis, left) if by_mm else moved
        return result

    before, low, high = volume_integral(body_mm[faces]), -60.0, 120.0
    for _ in range(40):  # the volume grows with the height
        middle = 0.5 * (low + high)
        short = (volume_integral(grown(middle)[faces]) - before) / 1000.0 < added_ml
        low, high = (middle, high) if short else (low, middle)
    result = grown(0.5 * (low + high))
    if lifted_mm:
        result[inside] += diffused(lifted_mm * share[:, None] * np.array([0.0, 1.0, 0.0]), basis, left)
    return result
