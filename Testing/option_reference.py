"""`python -m Testing.option_reference`: writes docs/option-reference.md, made from the declared options."""

from __future__ import annotations

from pathlib import Path

from BreastReconstructionLib.capabilities import CAPABILITIES
from BreastReconstructionLib.core.options import Option, options_of
from BreastReconstructionLib.core.stage import Stage

PAGE = Path(__file__).resolve().parent.parent / "docs" / "option-reference.md"
HEAD = """# Option reference

Made from the declarations in the source by `python -m Testing.option_reference`; do not edit.

Each stage is a command of its own and a part of a case's `settings.json`. Options go by their flag on the command line, by
their name in `settings.json` and in Python. `--quality draft` takes the values of the column *draft*.
"""


def reference() -> str:
    """Return the page."""
    parts = [HEAD]
    for capability in CAPABILITIES:
        parts += [_of_stage(stage) for stage in capability.stages]
    return "\n".join(parts)


def _of_stage(stage: Stage) -> str:
    needs = ", ".join(f"`{need.name}`" for need in stage.needs)
    lines = [f"## {stage.title}: `{' '.join(stage.command_words)}`", "", stage.options.__doc__.strip()]
    lines += ["", f"Needs {needs}."] if needs else []
    options = options_of(stage.options)
    if options:
        lines += ["", "| option | flag | default | draft | values | what |", "|---|---|---|---|---|---|"]
        lines += [_row(option) for option in options]
    return "\n".join([*lines, ""])


def _row(option: Option) -> str:
    draft = "" if option.draft == option.default else _value(option, option.draft)
    values = option.range_words or ", ".join(f"`{name}` ({words})" for name, words in option.choices.items()) or _kind(option)
    flag = f"`{option.flag}`" if option.kind is bool or not option.metavar else f"`{option.flag} {option.metavar}`"
    what = option.help[0].upper() + option.help[1:]
    cells = (f"`{option.name}`", flag, _value(option, option.default), draft, values, what)
    return "| " + " | ".join(cells) + " |"


def _kind(option: Option) -> str:
    return {bool: "on or off", Path: "a path", tuple: "may be given several times", str: "text"}[option.kind]


def _value(option: Option, value: object) -> str:
    if option.kind is bool:
        return "on" if value else "off"
    if value is None or value == ():
        return "none"
    return f"{value:g}{' ' + option.unit if option.unit else ''}" if isinstance(value, (int, float)) else f"`{value}`"


def main() -> None:
    PAGE.write_text(reference())
    print(PAGE)


if __name__ == "__main__":
    main()
