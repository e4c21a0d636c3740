"""The stages in order: the table of contents of the library.

frames -> cameras -> dense -> landmarks -> align -> fit -> surface -> report. Each stage is a function that takes the typed
results of earlier ones and returns its own; `Reconstruction` below loads what is current and computes what is not.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from .case import Case, disk_errors, hash_of_file, read_case_file
from .errors import CameraError, CaseError, LandmarkError
from .geometry import Similarity, model_to_patient, vertex_normals
from .landmarks.files import LandmarkInput, read_landmarks, write_landmarks_mrk_json
from .landmarks.names import LANDMARK_NAMES, NIPPLES
from .measurement.residuals import doubt_of_residuals, misfit
from .measurement.scale import (
    KnownDistance,
    KnownMarker,
    Scale,
    agreed_scale,
    approximate_scale,
    check_typed,
    doubted_scale,
    scale_from_distance,
    scale_from_marker,
)
from .progress import CancellationToken, Progress
from .resources import default_model_path

STAGES = ("frames", "cameras", "dense", "landmarks", "align", "fit", "surface", "report")
# Rough shares of the whole run, for one progress bar.
_SHARES = {
    "frames": 0.03,
    "cameras": 0.36,
    "dense": 0.23,
    "landmarks": 0.01,
    "align": 0.02,
    "fit": 0.13,
    "surface": 0.19,
    "report": 0.03,
}
DETAILS_MM = {"preview": 3.0, "normal": 1.0, "fine": 0.5}
LARGE_MOTION_MM = 5.0
# The landmarks alone tell the body's size less well than the fit does.
ROUGH_SIZE = 1.3
# Vertices at which the uncertainty is evaluated.
UNCERTAINTY_POINTS = 4000
RESULT_FILES = ("surface.ply", "landmarks.mrk.json", "report.json", "report.png", "accuracy.json")


@dataclass(frozen=True)
class Quality:
    """How much work a run does.

    Attributes:
        frame_count: frames to use.
        feature_pixels: longer side of the pictures in which features are sought.
        flow_pixels: longer side of the pictures between which optical flow is computed.
        detail_mm: size of the surface's grid cells.
    """

    frame_count: int
    feature_pixels: int
    flow_pixels: int
    detail_mm: float


QUALITIES = {
    "normal": Quality(frame_count=30, feature_pixels=960, flow_pixels=1920, detail_mm=1.0),
    "draft": Quality(frame_count=20, feature_pixels=640, flow_pixels=960, detail_mm=3.0),
}


@dataclass(frozen=True)
class Settings:
    """What the user decides.

    Attributes:
        video: video file or image folder.
        landmarks: landmark file; see landmarks.files. None will do up to the dense stage.
        scales: what is known in millimetres, each a KnownDistance or a KnownMarker; none for the approximate scale.
        trust_scale: the user has checked the scale: it is used whatever speaks against it.
        mirrored: the video shows what a mirror shows, as some front cameras film; it is flipped.
        quality: 'normal' or 'draft'; see QUALITIES.
        frame_count: frames to use; None for the quality's.
        strategy: 'sharp' or 'uniform'.
        cameras: 'colmap', 'vggsfm', 'colmap-model' or 'vggsfm-predictions'.
        cameras_path: the model folder or predictions file of the last two.
        vggsfm_python, vggsfm_checkout: the user's VGGSfM environment.
        shape_model: model file, None for the bundled one.
        regularisation: factor on the prior of the fit; more gives smoother, more typical shapes.
        detail_mm: size of the surface's grid cells; None for the quality's.
        first_order_fit: fit by Adam instead of Gauss-Newton.
        remove_unseen: leave out what no camera saw.
        correct_nipples: move the surface's nipples to the placed landmarks.
        truth: folder of a phantom's truth, to measure the error.
    """

    video: Path
    landmarks: Path | None = None
    scales: tuple[KnownDistance | KnownMarker, ...] = ()
    trust_scale: bool = False
    mirrored: bool = False
    quality: str = "normal"
    frame_count: int | None = None
    strategy: str = "sharp"
    cameras: str = "colmap"
    cameras_path: Path | None = None
    vggsfm_python: Path | None = None
    vggsfm_checkout: Path | None = None
    shape_model: Path | None = None
    regularisation: float = 1.0
    detail_mm: float | None = None
    first_order_fit: bool = False
    remove_unseen: bool = False
    correct_nipples: bool = False
    truth: Path | None = None


@dataclass(frozen=True)
class StageEvent:
    """One progress event: stage, its fraction, the whole run's fraction, a few words, and whether the stage's files are there."""

    stage: str
    fraction: float
    overall: float
    words: str
    finished: bool = False


def run(
    folder: Path,
    settings: Settings,
    report: Callable[[StageEvent], None] = lambda event: None,
    token: CancellationToken | None = None,
    until: str = "report",
) -> Path:
    """Run the stages up to `until`; finished ones that nothing changed are skipped.

    Args:
        folder: case folder.
        settings: see Settings.
        report: called with progress events.
        token: asks to stop.
        until: last stage to run.

    Returns:
        the case folder.

    Raises:
        BreastReconstructionError: its children say what is wrong and what to do.
    """
    check_typed(settings.scales, settings.trust_scale)
    case = Case(folder)
    with case.lock(), disk_errors(case.folder):
        reconstruction = Reconstruction(case, settings, report, Progress() if token is None else Progress(token=token))
        reconstruction.check_inputs(until)
        for stage in STAGES[: STAGES.index(until) + 1]:
            reconstruction.ensure(stage)
            if stage == "frames" and until != "frames":
                reconstruction.check_markers()
            if stage == "align" and until not in ("align", "fit"):
                reconstruction.check_scale()
    return case.folder


def stage_states(folder: Path, settings: Settings) -> dict[str, str]:
    """Say of each stage of a case, without running anything, whether it is 'done', 'out of date' or 'not done'.

    Raises:
        BreastReconstructionError: an input that the settings name cannot be read.
    """
    document = read_case_file(folder)["stages"] if folder.is_dir() else {}
    if not document:
        return dict.fromkeys(STAGES, "not done")
    reconstruction = Reconstruction(Case(folder), settings)
    return {
        stage: "not done" if stage not in document
        else "done" if reconstruction.case.is_current(stage, reconstruction.key(stage))
        else "out of date"
        for stage in STAGES
    }  # fmt: skip


class Reconstruction:
    """One case with its settings; results are loaded or computed on demand, each once."""

    def __init__(
        self,
        case: Case,
        settings: Settings,
        report: Callable[[StageEvent], None] = lambda event: None,
        progress: Progress | None = None,
    ):
        self.case = case
        self.settings = settings
        self._report = report
        self._progress = progress or Progress()

    def check_inputs(self, until: str) -> None:
        """Look at every input before the long run starts."""
        if self.settings.landmarks is None and STAGES.index(until) >= STAGES.index("landmarks"):
            raise LandmarkError("No landmarks are given; place all six.")
        self.landmark_input  # noqa: B018  (reading it is the check)
        self.source_info  # noqa: B018
        if self._markers:
            from .video.markers import aruco_dictionary

            for marker in self._markers:
                aruco_dictionary(marker.dictionary)
        if self.settings.shape_model is not None:
            self.model  # noqa: B018
        if self.settings.truth is not None:
            from .measurement.accuracy import read_truth

            read_truth(self.settings.truth)

    def check_markers(self) -> None:
        """Look for the printed markers in the chosen frames, before the cameras are found.

        Raises:
            ScaleError: one is in no frame.
        """
        if self._markers and not self.case.is_current("surface", self.key("surface")):
            from .video.markers import require_markers

            require_markers(self.frames.names, self.frames.read, self._markers, self.settings.mirrored)

    def check_scale(self) -> None:
        """Set the scale against the body as soon as the landmarks say how large that is, before it is fitted.

        Raises:
            ScaleError: it is unlike any body or any filming, and not confirmed.
        """
        if self.settings.scales and not self.case.is_current("surface", self.key("surface")):
            self._doubted(self.align.world_to_model.scale, ROUGH_SIZE)

    # Inputs ---------------------------------------------------------------------------------------------------------

    @cached_property
    def source_info(self):
        """Size and length of the video or image folder."""
        from .video.frames import probe

        return probe(self.settings.video)

    @cached_property
    def _picture_files(self) -> tuple[Path, ...]:
        """The pictures of a folder in their order, () for a video; the panel asks often, so nothing is decoded for it."""
        if not self.settings.video.is_dir():
            return ()
        from .video.pictures import picture_folder

        return picture_folder(self.settings.video).files

    @property
    def _markers(self) -> list[KnownMarker]:
        return [known for known in self.settings.scales if isinstance(known, KnownMarker)]

    @cached_property
    def landmark_input(self) -> LandmarkInput:
        """The landmark file, its pictures numbered as the source's and its pixels those of the chosen frames."""
        if self.settings.landmarks is None:
            return LandmarkInput((), {})
        given = read_landmarks(self.settings.landmarks)
        given = given.of_pictures(self._picture_files) if given.names_pictures else given
        return given.flipped(self._width_px) if self.settings.mirrored else given

    @property
    def _width_px(self) -> int:
        """Width of the pictures; of the chosen frames where there are some, so that the panel need not open the video."""
        chosen = self.case.path("frames", "frames.json")
        return json.loads(chosen.read_text())["width"] if chosen.exists() else self.source_info.width

    @cached_property
    def model(self):
        """The shape model."""
        from .shape_model.model_file import load_model

        return load_model(self.settings.shape_model)

    # Keys -----------------------------------------------------------------------------------------------------------

    @cached_property
    def _video_hash(self) -> str:
        video = self.settings.video
        if video.is_dir():
            return hashlib.sha256("".join(hash_of_file(path) for path in self._picture_files).encode()).hexdigest()
        return hash_of_file(video)

    def _stage_settings(self, stage: str) -> dict:
        """What a stage depends on besides earlier stages."""
        s = self.settings
        if stage == "frames":
            values = {"video": self._video_hash, "count": self._frame_count, "strategy": s.strategy}
            values |= {"mirrored": True} if s.mirrored else {}
            return {**values, "required": self._required_frames(values)}
        if stage == "cameras":
            extra = [] if s.cameras_path is None else [_hash_of_path(s.cameras_path)]
            pixels = QUALITIES[s.quality].feature_pixels if s.cameras == "colmap" else None
            return {"backend": s.cameras, "imported": extra, "feature_pixels": pixels}
        if stage == "dense":
            return {"flow_pixels": QUALITIES[s.quality].flow_pixels}
        if stage == "landmarks":
            return {"landmarks": hash_of_file(s.landmarks) if s.landmarks else None}
        if stage == "align":
            return {"model": hash_of_file(s.shape_model or default_model_path())}
        if stage == "fit":
            return {"regularisation": s.regularisation, "first_order": s.first_order_fit}
        if stage == "surface":
            scales = [{"kind": type(known).__name__, **asdict(known)} for known in s.scales]
            asked = {"correct_nipples": True} if s.correct_nipples else {}
            asked |= {"trust_scale": True} if s.trust_scale else {}
            return {"scales": scales, "detail_mm": self._detail_mm, "remove_unseen": s.remove_unseen, **asked}
        if stage == "report":
            return {"truth": hash_of_file(s.truth / "truth.json") if s.truth else None}
        return {}

    def _required_frames(self, values: dict) -> list[int]:
        """Video frames that carry picks; what was required before, if the frames chosen then hold every pick of now."""
        wanted = sorted({pick.video_frame for pick in self.landmark_input.picks if pick.video_frame is not None})
        record = self.case.stages.get("frames")
        if record is None or {key: record["settings"].get(key) for key in values} != values:
            return wanted
        try:
            chosen = json.loads(self.case.path("frames", "frames.json").read_text())["video_frames"]
        except OSError:
            return wanted
        return record["settings"]["required"] if set(wanted) <= set(chosen) else wanted

    @property
    def _frame_count(self) -> int:
        # Imported cameras name pictures; all pictures of a folder are taken, so that every name is found.
        if self.settings.cameras_path is not None and self.source_info.is_folder:
            return self.source_info.frame_count
        return self.settings.frame_count or QUALITIES[self.settings.quality].frame_count

    @property
    def _detail_mm(self) -> float:
        return self.settings.detail_mm or QUALITIES[self.settings.quality].detail_mm

    def key(self, stage: str) -> str:
        """Hash of everything a stage depends on: its settings, and the keys of the stages before it."""
        from . import __version__

        before = {name: self.key(name) for name in _DEPENDS[stage]}
        text = json.dumps([stage, __version__, self._stage_settings(stage), before], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()

    # Stages ---------------------------------------------------------------------------------------------------------

    def ensure(self, stage: str) -> None:
        """Run a stage unless it is current."""
        key = self.key(stage)
        if self.case.is_current(stage, key) and (stage != "report" or self._results_in_place()):
            self._tell(stage, 1.0, "unchanged, skipped", finished=True)
            return
        self.__dict__.pop(stage, None)
        progress = Progress(lambda fraction, words: self._tell(stage, fraction, words), self._progress.token)
        progress(0.0, "starts")
        work = getattr(self, f"_run_{stage}")
        dependents = STAGES[STAGES.index(stage) + 1 :]
        self.case.run_stage(stage, key, self._stage_settings(stage), lambda folder: work(folder, progress), dependents)
        if stage == "report":
            self._publish()
        self._tell(stage, 1.0, "done", finished=True)

    def _tell(self, stage: str, fraction: float, words: str, finished: bool = False) -> None:
        before = sum(_SHARES[name] for name in STAGES[: STAGES.index(stage)])
        self._report(StageEvent(stage, fraction, before + fraction * _SHARES[stage], words, finished))

    def _run_frames(self, folder: Path, progress: Progress) -> None:
        from .video.frames import select_frames
        from .video.markers import mirror_doubts

        values = self._stage_settings("frames")
        mirrored = self.settings.mirrored
        required = tuple(values["required"])
        frames = select_frames(self.settings.video, folder, values["count"], values["strategy"], required, progress, mirrored)
        if not self._markers:  # those are asked for by name
            frames = replace(frames, doubts=mirror_doubts(frames.names, frames.read, mirrored))
        frames.save(folder / "frames.json")

    @cached_property
    def frames(self):
        """Result of the frames stage."""
        from .video.frames import Frames

        return Frames.load(self.case.path("frames", "frames.json"))

    def _run_cameras(self, folder: Path, progress: Progress) -> None:
        from .sfm.reconstruction import check_sweep

        s, frames = self.settings, self.frames
        aliases = dict(zip(frames.source_names, frames.names, strict=False))
        if s.cameras == "colmap":
            from .sfm.colmap import reconstruct_with_colmap
            from .video.stillness import SUSPICIOUS_SHARE, TRIPOD

            try:
                result = reconstruct_with_colmap(
                    frames.folder, frames.names, folder / "colmap", progress, QUALITIES[s.quality].feature_pixels
                )
            except CameraError as error:
                if frames.still_share > SUSPICIOUS_SHARE:
                    raise CameraError(TRIPOD) from error
                raise
            for name in ("database.db", "database.db-wal", "database.db-shm"):
                (folder / "colmap" / name).unlink(missing_ok=True)  # 60 MB that nothing reads again
        elif s.cameras == "vggsfm":
            from .sfm.vggsfm import reconstruct_with_vggsfm

            if s.vggsfm_python is None or s.vggsfm_checkout is None:
                raise CameraError(
                    "VGGSfM needs --vggsfm-python and --vggsfm-checkout, the environment and source folder it is installed in."
                )
            size = (frames.width, frames.height)
            result = reconstruct_with_vggsfm(
                frames.folder, frames.names, folder / "vggsfm", size, s.vggsfm_python, s.vggsfm_checkout, progress
            )
        elif s.cameras == "colmap-model":
            from .sfm.imported import read_colmap_model

            result = read_colmap_model(s.cameras_path, frames.names, aliases, (frames.width, frames.height))
        else:
            from .sfm.imported import read_vggsfm_predictions

            result = read_vggsfm_predictions(s.cameras_path, frames.names, aliases, frames.width, frames.height)
        if s.cameras_path is not None:
            from .sfm.imported import check_cameras_fit_pictures

            check_cameras_fit_pictures(result.cameras, frames.read)
        short_arc = check_sweep(list(result.cameras.values()))
        replace(result, warnings=(*result.warnings, *short_arc)).save(folder / "cameras.json")

    @cached_property
    def cameras(self):
        """Result of the cameras stage."""
        from .sfm.reconstruction import CameraReconstruction

        return CameraReconstruction.load(self.case.path("cameras", "cameras.json"))

    def _run_dense(self, folder: Path, progress: Progress) -> None:
        from .sfm.dense import densify
        from .surface.mesh_file import TriangleMesh, write_ply

        cloud, references = densify(
            self.cameras.cameras, self.frames.read, progress, QUALITIES[self.settings.quality].flow_pixels
        )
        cloud.save(folder / "dense.npz")
        references.save(folder / "references.npz")
        mesh = TriangleMesh(
            cloud.points_world.astype(float), np.empty((0, 3), int), cloud.normals_world.astype(float), cloud.colors
        )
        # World numbers as they are, so that landmarks picked on this cloud in another program need no conversion.
        write_ply(folder / "dense_world.ply", mesh, space="RAS")

    @cached_property
    def dense(self):
        """Result of the dense stage."""
        from .sfm.dense import DenseCloud

        return DenseCloud.load(self.case.path("dense", "dense.npz"))

    @cached_property
    def references(self):
        """Some of the dense points with the pixel that each was measured from."""
        from .sfm.dense import References

        return References.load(self.case.path("dense", "references.npz"))

    def _run_landmarks(self, folder: Path, progress: Progress) -> None:
        from .landmarks.locate import locate_landmarks

        names = dict(zip(self.frames.video_frames, self.frames.names, strict=True))
        landmarks = locate_landmarks(self.landmark_input, self.cameras.cameras, names, self.dense.points_world.astype(float))
        landmarks.save(folder / "landmarks.json")

    @cached_property
    def landmarks(self):
        """Result of the landmarks stage."""
        from .landmarks.locate import Landmarks

        return Landmarks.load(self.case.path("landmarks", "landmarks.json"))

    def _run_align(self, folder: Path, progress: Progress) -> None:
        from .shape_model.align import align_cloud

        aligned = align_cloud(
            self.dense.points_world.astype(float),
            self.dense.noise_world,
            self.landmarks.points_world,
            self.model,
        )
        aligned.save(folder / "aligned.npz")

    @cached_property
    def align(self):
        """Result of the align stage."""
        from .shape_model.align import AlignedCloud

        return AlignedCloud.load(self.case.path("align", "aligned.npz"))

    def _run_fit(self, folder: Path, progress: Progress) -> None:
        from .shape_model.fit import FitSettings, fit_first_order, fit_shape

        settings = FitSettings(regularisation=self.settings.regularisation)
        aligned = self.align
        fit = (fit_first_order if self.settings.first_order_fit else fit_shape)(
            aligned.points_model,
            aligned.landmarks_model,
            self.model,
            settings,
            progress.part(0.0, 0.2),
            noise_model=aligned.noise_model,
        )
        refined = self.fit_to_pictures(fit, settings, progress.part(0.2, 1.0))
        refined.fit.save(folder / "fit.npz")
        np.savez(folder / "motion.npz", motion=refined.motion, tracks=refined.tracks)
        # Said before the surface is computed; the metric scale follows with the surface, here the model's mean one serves.
        largest_mm = _largest_motion(refined.motion) * self.model.mm_per_unit
        (folder / "motion.json").write_text(json.dumps({"largest_mm": largest_mm, "warning": motion_warning(largest_mm)}))

    def fit_to_pictures(self, fit, settings, progress: Progress):
        """Refine a fit to this case's points by its pictures."""
        from .shape_model.registration import Pictures, fit_to_pictures
        from .shape_model.track_fit import Tracks

        references, aligned = self.references, self.align
        cameras = [self.cameras.cameras[name].moved(aligned.world_to_model) for name in references.names]
        points = aligned.world_to_model.apply(references.points_world.astype(float))
        pictures = Pictures(cameras, self.frames.read, QUALITIES[self.settings.quality].flow_pixels)
        tracks = Tracks.of(cameras, references.frames, references.normalized, points)
        return fit_to_pictures(fit, tracks, pictures, aligned.landmarks_model, self.model, settings, progress)

    @cached_property
    def fit(self):
        """Result of the fit stage."""
        from .shape_model.fit import ShapeFit

        return ShapeFit.load(self.case.path("fit", "fit.npz"))

    @property
    def _largest_motion_model(self) -> float:
        """Largest movement of the chest's front in any frame, model units; the mean position counts as rest."""
        with np.load(self.case.path("fit", "motion.npz")) as file:
            return _largest_motion(file["motion"])

    def _run_surface(self, folder: Path, progress: Progress) -> None:
        from .surface.mesh_file import write_ply

        scale = self._scale()
        world_to_patient = self._world_to_patient(scale)
        mesh = self._mesh(scale, world_to_patient, progress)
        landmarks = world_to_patient.apply(self.landmarks.points_world)
        write_ply(folder / "surface.ply", mesh)
        named = dict(zip(LANDMARK_NAMES, landmarks, strict=True))
        write_landmarks_mrk_json(folder / "landmarks.mrk.json", named, world_to_patient)
        document = {"scale": scale.as_dict(), "world_to_patient_ras_mm": world_to_patient.as_dict()}
        (folder / "surface.json").write_text(json.dumps(document, indent=1))

    def aligned_to_patient(self) -> Similarity:
        """Return the map from the aligned model frame to the patient space of this case's surface.

        Raises:
            CaseError: the case has no surface yet.
        """
        if "surface" not in self.case.stages:
            raise CaseError(f"The case {self.case.folder.name} has no surface yet; reconstruct it first.")
        document = json.loads(self.case.path("surface", "surface.json").read_text())
        return Similarity.from_dict(document["world_to_patient_ras_mm"]).after(self.align.world_to_model.inverse())

    def _scale(self) -> Scale:
        """The metric scale, in mm a world unit, with what speaks against it."""
        units_per_world = self._world_to_fit().scale
        if not self.settings.scales:
            return approximate_scale(self.model.mm_per_unit, self.model.mm_per_unit_spread, units_per_world)
        return self._doubted(units_per_world)

    def _doubted(self, units_per_world: float, widened: float = 1.0) -> Scale:
        """The measured scale with what the body, of so many model units a world unit, and the phone's distance say of it.

        The spread of the population is widened where the body's size is only roughly known.
        """
        from .sfm.reconstruction import subject_sphere

        scale, known, trusted = self._measured_scale, self.settings.scales, self.settings.trust_scale
        _, distance = subject_sphere(list(self.cameras.cameras.values()))
        prior = self.model.mm_per_unit, self.model.mm_per_unit_spread * widened
        mm_per_unit = scale.mm_per_world / units_per_world
        return doubted_scale(scale, known, mm_per_unit, prior, distance * scale.mm_per_world, trusted)

    @cached_property
    def _measured_scale(self) -> Scale:
        """What all sources of the scale say together."""
        return agreed_scale([self._scale_of(known) for known in self.settings.scales], self.settings.trust_scale)

    def _scale_of(self, known: KnownDistance | KnownMarker) -> Scale:
        cameras = self.cameras.cameras
        if isinstance(known, KnownMarker):
            from .video.markers import find_markers, marker_words

            seen, every = find_markers(cameras, self.frames.read, known)
            scale = scale_from_marker(replace(known, number=seen.number), seen.side_world, seen.side_spread_world, seen.sightings)
            in_view = tuple(marker_words(marker, known.dictionary, scale.mm_per_world) for marker in every)
            return replace(scale, markers_in_view=in_view)
        from .sfm.reconstruction import subject_sphere

        landmarks = self.landmarks
        focal = float(np.mean([camera.intrinsics[0, 0] for camera in cameras.values()]))
        _, distance = subject_sphere(list(cameras.values()))
        return scale_from_distance(known, landmarks.points_world, landmarks.reprojection_px, landmarks.views, focal, distance)

    def _world_to_fit(self) -> Similarity:
        return self.fit.refinement.after(self.align.world_to_model)

    def _world_to_patient(self, scale: Scale) -> Similarity:
        to_fit = self._world_to_fit()
        return model_to_patient(scale.mm_per_world / to_fit.scale).after(to_fit)

    def _mesh(self, scale: Scale, world_to_patient: Similarity, progress: Progress):
        import torch

        from .shape_model.evaluation import Shape, distances_and_gradients, fastest_device, signed_distances
        from .surface.appearance import distance_to_points, keep_vertices, see_vertices
        from .surface.correction import move_smoothly
        from .surface.extraction import cells_for, extract_zero_level, project_to_zero_level
        from .surface.mesh_file import TriangleMesh

        progress(0.05, "surface from the fitted shape")
        shape = Shape.of(self.model.on(fastest_device()), torch.from_numpy(self.fit.code))
        mm_per_unit = scale.mm_per_world / self._world_to_fit().scale
        cells = cells_for(self._detail_mm / mm_per_unit)
        level = extract_zero_level(lambda points: signed_distances(shape, points), cells)
        progress(0.3, "vertices onto the zero level")
        vertices_model, normals_model = project_to_zero_level(level, lambda points: distances_and_gradients(shape, points))
        uncertainty = self._uncertainty_model(vertices_model) * mm_per_unit * self._misfit
        fit_to_patient = model_to_patient(mm_per_unit)
        vertices, normals = fit_to_patient.apply(vertices_model), fit_to_patient.apply_directions(normals_model)
        if self.settings.correct_nipples:
            placed = world_to_patient.apply(self.landmarks.points_world)[list(NIPPLES)]
            vertices = move_smoothly(vertices, fit_to_patient.apply(self.fit.anchors_model)[list(NIPPLES)], placed)
            normals = vertex_normals(vertices, level.faces)
        cameras = {name: camera.moved(world_to_patient) for name, camera in self.cameras.cameras.items()}
        seen = see_vertices(vertices, normals, cameras, self.frames.read, progress.part(0.5, 0.95))
        points = world_to_patient.apply(self.dense.points_world.astype(float))
        residual = distance_to_points(vertices, points)
        faces, kept = level.faces, np.arange(len(vertices))
        if self.settings.remove_unseen:
            kept, faces = keep_vertices(vertices, faces, seen.views > 0)
        scalars = {
            "residual_mm": residual[kept],
            "views": seen.views[kept].astype(float),
            "uncertainty_mm": uncertainty[kept],
        }
        return TriangleMesh(vertices[kept], faces, normals[kept], seen.colors[kept], scalars)

    @property
    def _residuals(self) -> tuple[float, int, float]:
        """Reprojection error in px, longer side of the frames, and 95th percentile of the fit's residuals in mm.

        Millimetres of a body of the model's mean size: the scale that somebody typed must not hide or make residuals.
        """
        longer = max(self.frames.width, self.frames.height)
        return self.cameras.reprojection_error_px, longer, self.fit.residual_p95 * self.model.mm_per_unit

    @property
    def _misfit(self) -> float:
        """By how much the uncertainty grows because of residuals larger than a sound run's, 1 at least."""
        return misfit(*self._residuals)

    def _uncertainty_model(self, vertices_model: np.ndarray) -> np.ndarray:
        """Standard deviation of the surface along its normal, model units: the fit's posterior and the model's own error.

        The posterior is smooth, so it is evaluated at some vertices and interpolated.
        """
        from scipy.spatial import cKDTree

        from .shape_model.fit import surface_uncertainty

        some = vertices_model[:: max(1, len(vertices_model) // UNCERTAINTY_POINTS)]
        posterior = surface_uncertainty(self.fit, self.model, some)
        distance, index = cKDTree(some).query(vertices_model, 4, workers=-1)
        weight = 1.0 / (distance + 1e-6)
        interpolated = (posterior[index] * weight).sum(axis=1) / weight.sum(axis=1)
        return np.hypot(interpolated, self.model.expression_error)

    @cached_property
    def surface(self):
        """Result of the surface stage: the mesh in patient space."""
        from .surface.mesh_file import read_mesh

        return read_mesh(self.case.path("surface", "surface.ply"))

    def _run_report(self, folder: Path, progress: Progress) -> None:
        from .surface.picture import outlines
        from .surface.report import Sheet, draw_sheet
        from .video.frames import write_png

        document = json.loads(self.case.path("surface", "surface.json").read_text())
        scale, to_patient = Scale(**document["scale"]), Similarity.from_dict(document["world_to_patient_ras_mm"])
        landmarks = to_patient.apply(self.landmarks.points_world)
        report = self._report_numbers(scale, landmarks)
        if self.settings.truth is not None:
            from .measurement.accuracy import read_truth, score

            used = tuple(
                frame for frame, name in zip(self.frames.video_frames, self.frames.names, strict=True)
                if name in self.cameras.cameras
            )  # fmt: skip
            accuracy = score(self.surface, landmarks, read_truth(self.settings.truth), used)
            (folder / "accuracy.json").write_text(json.dumps(accuracy, indent=1))
        progress(0.5, "drawing the report")
        cameras = {name: camera.moved(to_patient) for name, camera in self.cameras.cameras.items()}
        np.savez_compressed(folder / "outlines.npz", **outlines(cameras, self.surface.vertices_ras))
        sheet = Sheet(self.surface, cameras, landmarks, report_lines(report))
        write_png(folder / "report.png", draw_sheet(sheet, self.frames.read))
        (folder / "report.json").write_text(json.dumps(report, indent=1))

    def _report_numbers(self, scale: Scale, landmarks_ras: np.ndarray) -> dict:
        from . import __version__

        frames, cameras, fit, aligned = self.frames, self.cameras, self.fit, self.align
        mm_per_unit = scale.mm_per_world / self._world_to_fit().scale
        views = self.surface.scalars["views"]
        seen = views > 0
        doubts = [
            *doubt_of_residuals(*self._residuals),
            *scale.doubts,
            *frames.doubts,
        ]
        warnings = [*frames.warnings, *cameras.warnings, *self.landmarks.warnings]
        if scale.approximate:
            warnings.append(
                "The scale is approximate: nothing was measured, so lengths may be wrong by "
                f"{100 * scale.relative_uncertainty:.0f} % and volumes by three times that."
            )
        if not fit.converged:
            warnings.append("The fit stopped before it converged; look at the outline on the frames.")
        motion_mm = self._largest_motion_model * mm_per_unit
        if moved := motion_warning(motion_mm):
            warnings.append(moved)
        if fit.prior_distance > 2:
            warnings.append("This body is unusual for the shape model; look at the outline on the frames with care.")
        if "phantom" in str(self.model.card.get("population", "")):
            warnings.append("The bundled shape model knows only synthetic bodies; it is not for diagnosis.")
        length_mm = float(np.linalg.norm(landmarks_ras[0] - landmarks_ras[1]))
        return {
            "program": f"BreastReconstruction {__version__}",
            "written": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "frame": "patient space, mm, RAS (surface.ply holds LPS and says so)",
            "scale": {
                **scale.as_dict(),
                "uncertainty_mm_over_250_mm": 250 * scale.relative_uncertainty,
            },
            "handedness": frames.handedness,
            "frames": {"selected": len(frames.names), "registered": len(cameras.cameras), "lost": list(cameras.lost)},
            "cameras": {
                "source": cameras.source,
                "reprojection_error_px": _finite(cameras.reprojection_error_px),
                "sparse_points": len(cameras.points_world),
            },
            "points": {
                "dense": len(self.dense.points_world),
                "on_torso": len(aligned.points_model),
                "median_noise_mm": float(np.median(aligned.noise_model) * mm_per_unit),
            },
            "landmarks": {
                name: {
                    "position_ras_mm": landmarks_ras[k].tolist(),
                    "frames": int(self.landmarks.views[k]),
                    "reprojection_px": _finite(self.landmarks.reprojection_px[k]),
                }
                for k, name in enumerate(LANDMARK_NAMES)
            },
            "distances_mm": {
                "left-nipple to right-nipple": float(np.linalg.norm(landmarks_ras[2] - landmarks_ras[3])),
                "sternal-notch to left-nipple": float(np.linalg.norm(landmarks_ras[0] - landmarks_ras[2])),
                "sternal-notch to right-nipple": float(np.linalg.norm(landmarks_ras[0] - landmarks_ras[3])),
                "sternal-notch to navel": length_mm,
            },
            "fit": {
                "model": self.model.card["name"],
                "residual_mean_mm": fit.residual_mean * mm_per_unit,
                "residual_median_mm": fit.residual_median * mm_per_unit,
                "residual_p95_mm": fit.residual_p95 * mm_per_unit,
                "inlier_share": fit.inlier_share,
                "iterations": fit.iterations,
                "converged": fit.converged,
                "largest_patient_motion_mm": motion_mm,
                "distance_from_mean_body": fit.prior_distance,
                "mm_per_model_unit": mm_per_unit,
            },
            "surface": {
                "vertices": len(self.surface.vertices_ras),
                "faces": len(self.surface.faces),
                "seen_share": float(seen.mean()),
                "median_distance_to_points_mm": float(np.median(self.surface.scalars["residual_mm"][seen])),
                "median_uncertainty_mm": float(np.median(self.surface.scalars["uncertainty_mm"][seen])),
                "p95_uncertainty_mm": float(np.percentile(self.surface.scalars["uncertainty_mm"][seen], 95)),
            },
            "doubts": doubts,
            "warnings": warnings,
        }

    def _results_in_place(self) -> bool:
        wanted = [name for name in RESULT_FILES if name != "accuracy.json" or self.settings.truth is not None]
        return all((self.case.folder / name).exists() for name in wanted)

    def _publish(self) -> None:
        """Copy the results to the top of the case folder, each in one step."""
        for name in RESULT_FILES:
            stage = "surface" if name in ("surface.ply", "landmarks.mrk.json") else "report"
            source, target = self.case.path(stage, name), self.case.folder / name
            if not source.exists():
                target.unlink(missing_ok=True)
                continue
            temporary = target.with_name(target.name + ".partial")
            shutil.copyfile(source, temporary)
            os.replace(temporary, target)


_DEPENDS = {
    "frames": (),
    "cameras": ("frames",),
    "dense": ("cameras",),
    "landmarks": ("dense",),
    "align": ("landmarks",),
    "fit": ("align",),
    "surface": ("fit",),
    "report": ("surface",),
}


def _hash_of_path(path: Path) -> str:
    if path.is_dir():
        return hashlib.sha256("".join(hash_of_file(p) for p in sorted(path.iterdir()) if p.is_file()).encode()).hexdigest()
    if not path.is_file():
        raise CameraError(f"The camera file {path.name} does not exist; check the path.")
    return hash_of_file(path)


def _largest_motion(motion: np.ndarray) -> float:
    """Largest displacement of the chest's front from its mean place, model units, for (F, MOTIONS) motions."""
    from .shape_model.track_fit import chest_motion

    chest = chest_motion(motion)
    return float(np.linalg.norm(chest - chest.mean(axis=0), axis=1).max())


def motion_warning(largest_mm: float) -> str:
    """Return what to say of a patient who moved by so much, '' if it is little."""
    if largest_mm <= LARGE_MOTION_MM:
        return ""
    return (
        f"The patient moved by up to {largest_mm:.0f} mm while being filmed; this is allowed for, but film again with the breath "
        "held if it matters."
    )


def _finite(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def report_lines(report: dict) -> list[str]:
    """The report's numbers in plain words."""
    scale, fit, points, frames = report["scale"], report["fit"], report["points"], report["frames"]
    surface = report["surface"]
    lines = [
        *(f"DOUBTFUL: {doubt}" for doubt in report["doubts"]),
        f"Scale: {scale['source']}; uncertain by {100 * scale['relative_uncertainty']:.1f} % "
        f"({scale['uncertainty_mm_over_250_mm']:.1f} mm over 25 cm, one standard deviation).",
        *([f"Markers in view: {'; '.join(scale['markers_in_view'])}."] if len(scale["markers_in_view"]) > 1 else []),
        f"Handedness: {report['handedness']}.",
        f"Frames: {frames['registered']} of {frames['selected']} placed in space. Cameras: {report['cameras']['source']}.",
        f"Points: {points['on_torso']} measured on the torso, noise {points['median_noise_mm']:.1f} mm (median). "
        f"Fit: {fit['residual_median_mm']:.1f} mm median distance of points to the surface, 95 % within "
        f"{fit['residual_p95_mm']:.1f} mm; model {fit['model']}.",
        f"Surface: uncertain by {surface['median_uncertainty_mm']:.1f} mm where a frame sees it (one standard deviation, median; "
        f"95 % of it by less than {surface['p95_uncertainty_mm']:.1f} mm), by the fit's posterior and the model's error on "
        "bodies it never saw; the scale comes on top.",
        "Straight distances: " + "; ".join(f"{name} {mm:.0f} mm" for name, mm in report["distances_mm"].items()) + ".",
    ]
    return lines + [f"Note: {warning}" for warning in report["warnings"]]
