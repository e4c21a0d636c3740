"""Sound inputs of every kind that the program reads, small: what the campaign damages."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from BreastReconstructionLib.capabilities.torso.stages import CAMERAS, LANDMARKS
from BreastReconstructionLib.core.case import Case
from BreastReconstructionLib.core.resources import bundled_model_path, resource_path
from BreastReconstructionLib.geometry.volume import Volume, read_volume, write_volume
from BreastReconstructionLib.landmarks.files import write_landmarks_mrk_json, write_landmarks_pp
from BreastReconstructionLib.landmarks.names import LANDMARK_NAMES
from BreastReconstructionLib.phantom.radiograph import PhantomRadiographSettings, phantom_radiograph
from BreastReconstructionLib.sfm.reconstruction import CameraReconstruction
from Testing.Benchmarks.video_parts import command
from Testing.cases import forget_from, small_arguments, small_pictures
from Testing.dicom import write_series

PICTURE_PX = (270, 480)


@dataclass(frozen=True)
class Base:
    """What the trials start from.

    Attributes:
        folder: holds `seeds`, a folder for each kind of input.
        pictures, picks: of the small case.
        case: the small case, finished; `case-report` and `case-fit` beside it have what comes before these stages.
    """

    folder: Path
    pictures: Path
    picks: Path
    case: Path


def seeds(folder: Path) -> Base:
    """Make everything; the small case is taken if the folder has it from before."""
    sample = resource_path("SampleData", "phantom")
    base = Base(folder, folder / "small" / "pictures", folder / "small" / "picks.csv", folder / "case")
    if not base.pictures.exists():
        (folder / "small").mkdir(parents=True)
        small_pictures(sample, folder / "small")
    code, _, _, text = command(*small_arguments((base.pictures, base.picks)), "-o", base.case)
    if code != 0:
        raise RuntimeError(text)
    shutil.rmtree(folder / "seeds", ignore_errors=True)
    for stage in ("report", "fit"):
        shutil.rmtree(folder / f"case-{stage}", ignore_errors=True)
        forget_from(shutil.copytree(base.case, folder / f"case-{stage}", copy_function=os.link), stage)
    for make in (_films, _landmarks, _models, _cameras, _volumes, _meshes, _training):
        make(folder / "seeds", base)
    empty(folder / "seeds", "nothing")
    (empty(folder / "seeds", "list") / "list.csv").write_text(
        "case,video,landmarks,marker,frames\na,v.mp4,p.csv,DICT_4X4_50:80,30\n"
    )
    return base


def empty(folder: Path, name: str) -> Path:
    """Make a folder of one kind of input."""
    (folder / name).mkdir(parents=True)
    return folder / name


def _films(folder: Path, base: Base) -> None:
    import av
    import cv2

    pictures = [cv2.resize(cv2.imread(str(path)), PICTURE_PX) for path in sorted(base.pictures.iterdir())]
    folder_of_pictures = empty(folder, "pictures")
    for k, picture in enumerate(pictures[:9]):
        cv2.imwrite(str(folder_of_pictures / f"{k:03d}.{'jpg' if k % 2 else 'png'}"), picture)
    with av.open(str(empty(folder, "video") / "video.mp4"), "w") as film:
        stream = film.add_stream("libx264", rate=30)
        stream.width, stream.height, stream.pix_fmt = *PICTURE_PX, "yuv420p"
        for picture in pictures:
            film.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="bgr24")))
        film.mux(stream.encode())


def _landmarks(folder: Path, base: Base) -> None:
    import trimesh

    shutil.copyfile(base.picks, empty(folder, "picks") / "picks.csv")
    found = Case(base.case).result(LANDMARKS).points_world
    points = dict(zip(LANDMARK_NAMES, found, strict=True))
    rows = [f"{name},{p[0]},{p[1]},{p[2]}" for name, p in points.items()]
    (empty(folder, "places") / "places.csv").write_text("\n".join(["landmark,x,y,z", *rows]) + "\n")
    write_landmarks_mrk_json(empty(folder, "markups") / "landmarks.mrk.json", points)
    write_landmarks_pp(empty(folder, "meshlab") / "landmarks.pp", points)
    trimesh.PointCloud(found).export(empty(folder, "ply") / "landmarks.ply")


def _models(folder: Path, base: Base) -> None:
    for name, path in (("model", bundled_model_path()), ("network", bundled_model_path("phantom-landmarks"))):
        target = empty(folder, name)
        for file in (path, path.with_suffix(".json")):
            shutil.copyfile(file, target / file.name)


def _cameras(folder: Path, base: Base) -> None:
    import pycolmap
    import torch

    found: CameraReconstruction = Case(base.case).result(CAMERAS)
    first = next(iter(found.cameras.values()))
    k, d = first.intrinsics, first.distortion
    lines = [f"1 OPENCV {first.width} {first.height} {k[0, 0]} {k[1, 1]} {k[0, 2]} {k[1, 2]} {d[0]} {d[1]} {d[2]} {d[3]}"]
    text = empty(folder, "colmap-text")
    (text / "cameras.txt").write_text("\n".join(lines) + "\n")
    rows = []
    for number, (name, camera) in enumerate(sorted(found.cameras.items()), start=1):
        q = pycolmap.Rotation3d(camera.rotation).quat
        place = " ".join(str(value) for value in camera.translation)
        rows += [f"{number} {q[3]} {q[0]} {q[1]} {q[2]} {place} 1 {name}", ""]
    (text / "images.txt").write_text("\n".join(rows) + "\n")
    points = [f"{k} {p[0]} {p[1]} {p[2]} 200 150 130 0.5" for k, p in enumerate(found.points_world[:200], start=1)]
    (text / "points3D.txt").write_text("\n".join(points) + "\n")
    pycolmap.Reconstruction(str(text)).write_binary(str(empty(folder, "colmap")))
    cameras = [camera for _, camera in sorted(found.cameras.items())]
    values = {
        "extrinsics_opencv": torch.tensor(np.array([np.column_stack([c.rotation, c.translation]) for c in cameras])),
        "intrinsics_opencv": torch.tensor(np.array([c.intrinsics for c in cameras])),
        "extra_params": torch.full((len(cameras), 1), float(d[0])),
        "points3D": torch.tensor(found.points_world[:200]),
        "points3D_rgb": torch.rand(len(found.points_world[:200]), 3),
        "image_names": [camera.name for camera in cameras],
    }
    torch.save(values, empty(folder, "predictions") / "vggsfm_predictions.pt")


def _volumes(folder: Path, base: Base) -> None:
    import SimpleITK as sitk

    whole = read_volume(resource_path("SampleData", "phantom-ct", "volume.nrrd"))
    step = np.diag([4.0, 4.0, 4.0, 1.0])
    small = Volume(np.ascontiguousarray(whole.values[::4, ::4, ::4]), whole.ijk_to_ras @ step)
    write_volume(empty(folder, "nifti") / "volume.nii", small, compressed=False)
    write_volume(empty(folder, "nrrd") / "volume.nrrd", small)
    folder_of_labels, places = empty(folder, "labels"), np.mgrid[-12:13, -12:13, -12:13]
    for name, longer in (("a", 1.0), ("b", 1.3)):
        inside = (places[0] / longer) ** 2 + (places[1] * 1.4) ** 2 + (places[2] * 1.2) ** 2 < 7.0**2
        write_volume(folder_of_labels / f"{name}.nii.gz", Volume(inside.astype(np.uint8), np.diag([4.0, 4.0, 4.0, 1.0])))
    write_series(empty(folder, "dicom"), small.values, small.spacing_mm)
    made = phantom_radiograph(PhantomRadiographSettings()).radiograph
    grey = np.round(60_000 * (made.attenuation - made.attenuation.min()) / np.ptp(made.attenuation)).astype(np.uint16)
    picture = sitk.GetImageFromArray(grey[None])
    picture.SetSpacing((made.pixel_mm, made.pixel_mm, 1.0))
    for tag, value in (
        ("0008|0060", "DX"),
        ("0018|1110", str(made.source_to_detector_mm)),
        ("0018|1111", str(made.source_to_bone_mm)),
    ):
        picture.SetMetaData(tag, value)
    sitk.WriteImage(picture, str(empty(folder, "radiograph") / "radiograph.dcm"))


def _meshes(folder: Path, base: Base) -> None:
    import trimesh

    sample = resource_path("SampleData", "phantom")
    mesh = trimesh.load(sample / "torso.ply", process=False)
    scans = empty(folder, "scans")
    for name in ("a.ply", "b.obj", "c.stl"):
        mesh.export(scans / name)
        shutil.copyfile(sample / "landmarks.mrk.json", scans / f"{Path(name).stem}.mrk.json")


def _training(folder: Path, base: Base) -> None:
    import h5py

    random, data = np.random.default_rng(0), empty(folder, "hdf5")
    with h5py.File(data / "data.h5", "w") as file:
        for name in ("a", "b", "c"):
            group = file.create_group(name)
            normals = random.normal(size=(500, 3))
            normals /= np.linalg.norm(normals, axis=1, keepdims=True)
            values = {"surf_points": 0.4 * normals, "surf_normals": normals, "landmarks": random.uniform(-0.3, 0.3, (6, 3))}
            for key, value in values.items():
                group.create_dataset(key, data=value.astype(np.float32))
    config = {"data": ["data.h5"], "work": "../work", "output": "../output", "steps": 2, "batch_subjects": 2, "batch_points": 64}
    (data / "config.json").write_text(json.dumps({**config, "validate_every": 2, "variant": "small"}))
