"""Commands on the Python that everything runs in."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path

from ...core.commands import Commands
from ...core.console import Console
from ...core.files import write_table


def add(commands: Commands) -> None:
    """Add the commands."""
    private = commands.add("private-python", "make a Python of its own for Slicer's panel (fetches packages)", _private_python)
    private.add_argument("requirements", type=Path, metavar="FILE", help="requirements.txt")
    private.add_argument("--folder", type=Path, metavar="FOLDER", help="where (default: in your home folder)")
    private.add_argument("--python", metavar="PYTHON", help="interpreter that uv takes (default: a native one that it fetches)")
    commands.add("environment", "say which packages are installed and on what device the fit will run", _environment)
    licences = commands.add("licences", "list every installed package that this program needs, with its licence", _licences)
    licences.add_argument("--csv", type=Path, metavar="FILE", help="write the list here, too")


def _licences(options: argparse.Namespace, console: Console) -> None:
    from ...core.licences import installed_licences

    found = installed_licences()
    rows = [{"package": one.package, "version": one.version, "licence": one.licence or "not stated"} for one in found]
    if options.csv:
        write_table(options.csv, rows)
    lines = [f"  {row['package']:28s} {row['version']:16s} {row['licence']}" for row in rows]
    strict = [one.package for one in found if one.strict]
    lines.append(
        f"{len(rows)} packages; {', '.join(strict) or 'none'} under terms that reach what is shipped with it (GPL and such)."
    )
    console.say("\n".join(lines), packages=rows, strict=strict)


def _environment(options: argparse.Namespace, console: Console) -> None:
    from ...core.environment import inspect_environment

    found = inspect_environment()
    lines = [f"  {name:24s} {version or 'not installed'}" for name, version in found.packages.items()]
    console.say("\n".join([f"Python {found.python}", *lines, f"device: {found.device}"]), **asdict(found))


def _private_python(options: argparse.Namespace, console: Console) -> None:
    from ...core.private_python import install_private_python

    lines = options.requirements.read_text().splitlines()
    requirements = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
    path = install_private_python(requirements, console.progress("private Python"), options.folder, options.python)
    console.say(f"The private Python is {path}.", interpreter=path)
