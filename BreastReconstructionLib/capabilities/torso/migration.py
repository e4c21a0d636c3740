"""Cases of format 1 (versions up to 0.3): their records, brought to the present keys, and what their panel remembered."""

from __future__ import annotations

from typing import Any

from ...core.options import options_of
from ...core.run import key_of
from .stages import ALIGN, CAMERAS, DENSE, FIT, FRAMES, LANDMARKS, TORSO

# Option of format 1 -> its name now, by stage. What came from outside the case keeps its name.
_OPTIONS = {
    FRAMES.name: {"count": "frame_count", "strategy": "strategy", "mirrored": "mirrored"},
    CAMERAS.name: {"feature_pixels": "feature_pixels"},
    DENSE.name: {"flow_pixels": "flow_pixels"},
    FIT.name: {"regularisation": "regularisation", "first_order": "first_order_fit"},
}
_SOURCES = {FRAMES.name: ("video", "required"), LANDMARKS.name: ("landmarks",), ALIGN.name: ("model",)}


def migrate(stages: dict[str, dict]) -> dict[str, dict]:
    """Return the records of format 1 in the present form.

    Stages up to the fit stay up to date; the surface and what follows do not, since the scale has a stage of its own now.
    """
    keys: dict[str, str] = {}
    migrated = {}
    for stage in TORSO.stages:
        if stage.name not in stages:
            continue
        record = {name: value for name, value in stages[stage.name].items() if name != "settings"}
        values = _values(stage.name, stages[stage.name].get("settings", {}))
        record |= {"key": "", "values": values}
        if all(need.name in keys for need in stage.needs) and stage.name in (*_OPTIONS, *_SOURCES):
            record["key"] = keys[stage.name] = key_of(stage, values, {need.name: keys[need.name] for need in stage.needs})
        migrated[stage.name] = record
    return migrated


def _values(name: str, settings: dict[str, Any]) -> dict[str, Any]:
    stage = next(stage for stage in TORSO.stages if stage.name == name)
    defaults = {option.name: option.default for option in options_of(stage.options)}
    values = {new: settings[old] for old, new in _OPTIONS.get(name, {}).items() if settings.get(old) is not None}
    changed = {new: value for new, value in values.items() if value != defaults[new]}
    kept = {source: settings[source] for source in _SOURCES.get(name, ()) if source in settings}
    if name == CAMERAS.name and settings.get("backend", "colmap") != "colmap":
        kept |= {"imported": settings["imported"][0]} if settings["imported"] else {"backend": settings["backend"]}
    return {**changed, **kept}
