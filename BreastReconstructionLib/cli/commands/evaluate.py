"""How well models explain bodies that they never saw."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ...core.commands import Commands, whole_number
from ...core.console import Console
from ...phantom import POPULATION_NAMES


def add(commands: Commands) -> None:
    """Add the command."""
    subjects = whole_number(1, 1000)
    sub = commands.add("evaluate", "errors on phantoms that no training saw, beside other methods", _evaluate)
    sub.add_argument("--subjects", type=subjects, default=20, metavar="N", help="how many (default 20)")
    sub.add_argument("--population", choices=POPULATION_NAMES, default="wide", help="which bodies (default wide)")
    words = "of principal components (default 600)"
    sub.add_argument("--training-subjects", type=subjects, default=600, metavar="N", help=words)
    words = "of each model, for its specificity (default 20)"
    sub.add_argument("--random-shapes", type=subjects, default=20, metavar="N", help=words)
    sub.add_argument("--model", type=Path, metavar="FILE", help="shape model (default: see 'model default')")
    sub.add_argument("--global-model", type=Path, metavar="FILE", help="of one function (default: the bundled one)")
    sub.add_argument("--work", type=Path, metavar="FOLDER", help="keep the training torsos here")
    sub.add_argument("--json", type=Path, metavar="FILE", help="write the table here")


def _evaluate(options: argparse.Namespace, console: Console) -> None:
    import tempfile

    from ...core.errors import DependencyError
    from ...core.resources import COMPARISON_MODEL, TORSO, bundled_model_path
    from ...shape_model.held_out import (
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
    from ...shape_model.model_file import load_model

    model = load_model(options.model).required(TORSO)
    with tempfile.TemporaryDirectory() as temporary:
        skins = training_skins(options.training_subjects, options.population, options.work or Path(temporary))
    other = load_model(options.global_model or bundled_model_path(COMPARISON_MODEL))
    methods = {"local": by_model(model), "global": by_model(other), "pca": PrincipalComponents.of(skins)}
    notes = []
    try:
        methods["poisson"] = screened_poisson()
    except DependencyError as error:
        notes.append(str(error))
    progress = console.progress("evaluate")
    table = evaluate_methods(methods, options.subjects, options.population, progress)
    for name, judged in (("local", model), ("global", other)):
        drawn = specificity(judged, skins, options.random_shapes, progress=progress)
        table[name] |= {"specificity": drawn, "compactness": compactness(judged)}
    others = specificity_of_population(skins, options.population, options.random_shapes, progress)
    table["population"] = {"specificity": others}
    if options.json:
        options.json.write_text(json.dumps(table, indent=1))
    lines = [f"{options.subjects} subjects never trained on; mean ± 95 % interval, mm", _header()]
    for name in methods:
        lines += [_row(name, protocol, table[name][protocol]) for protocol in PROTOCOLS]
    for name, whose in (("local", "random shapes"), ("global", "random shapes"), ("population", "torsos never trained on")):
        values = table[name]["specificity"]
        found = f"{values['mean_mm']:.2f} ± {values['mean_mm_interval']:.2f} mm"
        lines.append(f"specificity, {name}: {whose} lie {found} from the nearest training torso")
    console.say("\n".join(lines + notes), table=table)


_COLUMNS = ("mean_mm", "p95_mm", "nipples_mm", "landmarks_mm", "normal_consistency", "f_score_1_mm", "f_score_2_mm")


def _header() -> str:
    return f"{'':10s}{'':14s}" + "".join(f"{name:>22s}" for name in _COLUMNS)


def _row(method: str, protocol: str, values: dict) -> str:
    cells = []
    for name in _COLUMNS:
        interval = values.get(f"{name}_interval")
        text = "-" if name not in values else f"{values[name]:.3f}" + (f" ± {interval:.3f}" if interval is not None else "")
        cells.append(f"{text:>22s}")
    return f"{method:10s}{protocol:14s}" + "".join(cells)
