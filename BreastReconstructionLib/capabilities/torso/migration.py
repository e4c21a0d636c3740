"""Cases of format 1 (versions up to 0.3): their records, brought to the present keys, and what their panel remembered."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...core.errors import CaseError
from ...core.options import options_of
from ...core.run import key_of
from ...core.settings import FILE_NAME, Settings, quality_values, read_settings
from ...core.stage import Stage
from . import TORSO
from .stages import ALIGN, CAMERAS, DENSE, FIT, FRAMES, LANDMARKS

# Option of format 1 -> its name now, by stage. What came from outside the case keeps its name.
_OPTIONS = {
    FRAMES.name: {"count": "frame_count", "strategy": "strategy", "mirrored": "mirrored"},
    CAMERAS.name: {"feature_pixels": "feature_pixels"},
    DENSE.name: {"flow_pixels": "flow_pixels"},
    FIT.name: {"regularisation": "regularisation", "first_order": "first_order_fit"},
}
_SOURCES = {FRAMES.name: ("video", "required"), LANDMARKS.name: ("landmarks",), ALIGN.name: ("model",)}


# Parameter of the panel of format 1 -> option.
_PANEL = {
    "videoPath": "video",
    "frameCount": "frame_count",
    "strategy": "strategy",
    "mirrored": "mirrored",
    "vggsfmPython": "vggsfm_python",
    "vggsfmFolder": "vggsfm_checkout",
    "landmarksFile": "landmarks",
    "trustScale": "trust_scale",
    "modelPath": "model",
    "regularisation": "regularisation",
    "detailMm": "detail_mm",
    "removeUnseen": "remove_unseen",
    "correctNipples": "correct_nipples",
}
_PANEL_FILE = "panel.json"


def settings_of_case(folder: Path, stages: Sequence[Stage[Any, Any]]) -> Settings | None:
    """Return the settings that a case holds, of whatever format; None if it holds none.

    Raises:
        CaseError: they are damaged, or of a newer version.
        OptionError: they name an unknown option, or an impossible value.
    """
    if (folder / FILE_NAME).is_file():
        return read_settings(folder, stages)
    if not (folder / _PANEL_FILE).is_file():
        return None
    try:
        panel = dict(json.loads((folder / _PANEL_FILE).read_text()))
    except (ValueError, TypeError) as error:
        raise CaseError(f"{folder.name}/{_PANEL_FILE} is damaged; delete it and give the settings again.") from error
    values = {new: panel[old] for old, new in _PANEL.items() if panel.get(old) not in (None, "")}
    values = quality_values(TORSO.stages, panel.get("quality", "normal")) | values
    values["cameras"] = panel.get("cameraPath") if panel.get("backend") == "import" else panel.get("backend", "colmap")
    kind = panel.get("scaleKind", "distance")
    number = f":{panel['markerNumber']}" if panel.get("markerNumber", -1) >= 0 else ""
    if kind in ("distance", "both") and panel.get("distanceMm", 0) > 0:
        values["distance"] = [f"{panel['distanceFrom']}:{panel['distanceTo']}={panel['distanceMm']:g}"]
    if kind in ("marker", "both") and panel.get("markerMm", 0) > 0:
        values["marker"] = [f"{panel['markerDictionary']}{number}:{panel['markerMm']:g}"]
    return Settings().with_values(TORSO.stages, {**values, "approximate_scale": kind == "approximate"})


def migrate(stages: dict[str, dict]) -> dict[str, dict]:
    """Return the records of format 1 in the present form.

    Stages stay up to date up to the first whose result has changed since; the surface and what follows do not in any case, since
    the scale has a stage of its own now.
    """
    keys: dict[str, str] = {}
    migrated = {}
    for stage in TORSO.stages:
        if stage.name not in stages:
            continue
        record = {name: value for name, value in stages[stage.name].items() if name != "settings"}
        values = _values(stage, stages[stage.name].get("settings", {}))
        record |= {"key": "", "values": values}
        unchanged = stage.revision == 1 and stage.name in (*_OPTIONS, *_SOURCES)
        if unchanged and all(need.name in keys for need in stage.needs):
            record["key"] = keys[stage.name] = key_of(stage, values, {need.name: keys[need.name] for need in stage.needs})
        migrated[stage.name] = record
    return migrated


def _values(stage: Stage[Any, Any], settings: dict[str, Any]) -> dict[str, Any]:
    name = stage.name
    defaults = {option.name: option.default for option in options_of(stage.options)}
    values = {new: settings[old] for old, new in _OPTIONS.get(name, {}).items() if settings.get(old) is not None}
    changed = {new: value for new, value in values.items() if value != defaults[new]}
    kept = {source: settings[source] for source in _SOURCES.get(name, ()) if source in settings}
    if name == CAMERAS.name and settings.get("backend", "colmap") != "colmap":
        kept |= {"imported": settings["imported"][0]} if settings["imported"] else {"backend": settings["backend"]}
    return {**changed, **kept}
