"""What the stages take from outside the case: told apart by content for their keys, and looked at before a long run.

The panel asks often, and in a Python that may lack the networks: nothing heavy is imported or decoded here.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from ...core.case import Case
from ...core.errors import CameraError, LandmarkError, ScaleError, VideoError
from ...core.files import hash_of_file, hash_of_files
from ...core.resources import LANDMARK_NETWORK, TORSO, bundled_model_path, default_model_path
from ...core.settings import Settings
from ...landmarks.files import PROPOSED, LandmarkInput, read_landmarks
from ...measurement.scale import KnownDistance, KnownMarker, check_typed, parse_distance, parse_marker
from .stages import (
    ALIGN,
    CAMERAS,
    FRAMES,
    LANDMARKS,
    MARKERS,
    PROPOSAL,
    REPORT,
    SCALE,
    CamerasOptions,
    MarkersOptions,
    ProposalOptions,
    ScaleOptions,
)

# Frames -------------------------------------------------------------------------------------------------------------


def video_of(settings: Settings) -> Path:
    """Return the path of the video or the folder of pictures.

    Raises:
        VideoError: none is given.
    """
    video = settings.of(FRAMES).video
    if video is None:
        raise VideoError("No video is given; choose one, or a folder of pictures.")
    return video


def picture_files(video: Path) -> tuple[Path, ...]:
    """Return the pictures of a folder in their order, () for a video."""
    if not video.is_dir():
        return ()
    from ...video.pictures import picture_folder

    return picture_folder(video).files


def landmark_file(landmarks: Path | None, video: Path) -> LandmarkInput:
    """Read a landmark file, its pictures numbered as the video's; empty if there is none."""
    if landmarks is None:
        return LandmarkInput((), {})
    given = read_landmarks(landmarks)
    return given.of_pictures(picture_files(video)) if given.names_pictures else given


def check_frames(settings: Settings) -> None:
    """See that video and landmark file can be read."""
    from ...video.frames import probe

    landmark_file(settings.of(LANDMARKS).landmarks, video_of(settings))
    probe(video_of(settings))


def sources_of_frames(settings: Settings, case: Case) -> dict:
    """Return the video by its content, the frames that carry picks, and how many if all are taken."""
    video = video_of(settings)
    files = picture_files(video)
    values: dict = {"video": hash_of_files(files) if files else hash_of_file(video)}
    # Imported cameras name pictures; all pictures of a folder are taken, so that every name is found.
    if files and is_imported(settings.of(CAMERAS)):
        values["count"] = len(files)
    return {**values, "required": _required(settings, case, values)}


def _required(settings: Settings, case: Case, values: dict) -> list[int]:
    """Video frames that carry picks; what was required before, if the frames chosen then hold every pick of now."""
    given = landmark_file(settings.of(LANDMARKS).landmarks, video_of(settings))
    wanted = sorted({pick.video_frame for pick in given.picks if pick.video_frame is not None})
    if not case.has(FRAMES):
        return wanted
    before = case.stages[FRAMES.name]["values"]
    if any(before.get(name) != value for name, value in values.items()):
        return wanted
    return before["required"] if set(wanted) <= set(case.result(FRAMES).video_frames) else wanted


# Cameras ------------------------------------------------------------------------------------------------------------


def is_imported(options: CamerasOptions) -> bool:
    """True if the cameras come from a file or folder."""
    return options.cameras not in ("colmap", "vggsfm")


def sources_of_cameras(settings: Settings, case: Case) -> dict:
    """Return who finds the cameras, unless COLMAP does, and what is imported by its content."""
    options = settings.of(CAMERAS)
    if is_imported(options):
        return {"imported": _imported(options)}
    return {} if options.cameras == "colmap" else {"backend": options.cameras}


def _imported(options: CamerasOptions) -> str:
    """Hash of the imported file or folder."""
    path = Path(options.cameras)
    if path.is_dir():
        return hash_of_files(tuple(sorted(p for p in path.iterdir() if p.is_file())))
    if not path.is_file():
        raise CameraError(f"The camera file {path.name} does not exist; check the path.")
    return hash_of_file(path)


def check_cameras(settings: Settings) -> None:
    """See that what is imported is there, and that VGGSfM's environment is named."""
    options = settings.of(CAMERAS)
    if is_imported(options):
        _imported(options)
    if options.cameras == "vggsfm" and None in (options.vggsfm_python, options.vggsfm_checkout):
        raise CameraError(
            "VGGSfM needs --vggsfm-python and --vggsfm-checkout, the environment and source folder it is installed in."
        )


# Landmarks and model ------------------------------------------------------------------------------------------------


def sources_of_proposal(settings: Settings, case: Case) -> dict:
    """Return the network by its content."""
    return {"network": hash_of_file(landmark_network_path(settings.of(PROPOSAL)))}


def landmark_network_path(options: ProposalOptions) -> Path:
    """Path of the network that proposes landmarks."""
    return options.landmark_network or bundled_model_path(LANDMARK_NETWORK)


def check_landmarks(settings: Settings) -> None:
    """See that landmarks are given, and that a person has seen those which the program proposed, or wants them unseen."""
    options = settings.of(LANDMARKS)
    if options.landmarks is None:
        raise LandmarkError("No landmarks are given; place all six.")
    proposed = landmark_file(options.landmarks, video_of(settings)).named(PROPOSED)
    if proposed and not options.accept_proposed:
        raise LandmarkError(
            f"The landmarks in {options.landmarks.name} were proposed by the program ({', '.join(proposed)}): look at them, and "
            "say --accept-proposed if they are right, or place them yourself (in the panel: Landmarks)."
        )


def sources_of_landmarks(settings: Settings, case: Case) -> dict:
    """Return the landmark file by its content."""
    path = settings.of(LANDMARKS).landmarks
    return {"landmarks": hash_of_file(path) if path else None}


def check_align(settings: Settings) -> None:
    """See that the model that is asked for can be read."""
    model = settings.of(ALIGN).model
    if model is not None:
        from ...shape_model.model_file import load_model

        load_model(model).required(TORSO)


def sources_of_align(settings: Settings, case: Case) -> dict:
    """Return the shape model by its content."""
    return {"model": hash_of_file(settings.of(ALIGN).model or default_model_path())}


# Scale --------------------------------------------------------------------------------------------------------------


def known_markers(options: MarkersOptions) -> list[KnownMarker]:
    """Return the printed markers of known size.

    Raises:
        ScaleError: a text cannot be read.
    """
    return [parse_marker(text) for text in options.marker]


def known(markers: MarkersOptions, scale: ScaleOptions) -> tuple[KnownDistance | KnownMarker, ...]:
    """Return everything that is known in millimetres.

    Raises:
        ScaleError: a text cannot be read.
    """
    return (*known_markers(markers), *(parse_distance(text) for text in scale.distance))


def check_markers(settings: Settings) -> None:
    """See that OpenCV knows the dictionaries."""
    markers = known_markers(settings.of(MARKERS))
    if markers:
        from ...measurement.markers import aruco_dictionary

        for marker in markers:
            aruco_dictionary(marker.dictionary)


def sources_of_markers(settings: Settings, case: Case) -> dict:
    """Return which markers are looked for."""
    given = known_markers(settings.of(MARKERS))
    return {"markers": [asdict(marker) for marker in given]} if given else {}


def check_scale(settings: Settings) -> None:
    """Set what was typed against its own pair of landmarks."""
    options = settings.of(SCALE)
    given = known(settings.of(MARKERS), options)
    if not given and not options.approximate_scale:
        raise ScaleError("Nothing is known in millimetres; give a distance or a marker, or ask for the approximate scale.")
    check_typed(given, options.trust_scale)


def sources_of_scale(settings: Settings, case: Case) -> dict:
    """Return what is known in millimetres."""
    given = known(settings.of(MARKERS), settings.of(SCALE))
    return {"scales": [{"kind": type(one).__name__, **asdict(one)} for one in given]} if given else {}


# Report -------------------------------------------------------------------------------------------------------------


def check_report(settings: Settings) -> None:
    """See that the truth can be read."""
    truth = settings.of(REPORT).truth
    if truth is not None:
        from ...measurement.accuracy import read_truth

        read_truth(truth)


def sources_of_report(settings: Settings, case: Case) -> dict:
    """Return the truth by its content."""
    truth = settings.of(REPORT).truth
    return {"truth": hash_of_file(truth / "truth.json")} if truth else {}
