"""Damage to files: bits, cuts and repeats anywhere, and lies in the places that say how large something is."""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

Random = np.random.Generator
Mutation = Callable[[bytes, Random], bytes]

HUGE = (2**31 - 1, 2**32 - 1, 10**12, -1, 0, 60_000)
BOMB_BLOCKS = 80
STRANGE_NUMBERS = ("nan", "inf", "-1e308", "1e400", "-1", "0", "999999999999", "", "NaN", "0x10", "1,5", "١٢")
STRANGE_TEXTS = ("../../escaped", "/etc/passwd", "\x00", "é\u202e", "a" * 5000, "%s%n", "'; --", "${HOME}", "None")


def flipped_bits(content: bytes, random: Random) -> bytes:
    """Flip 1 to 64 bits; half of the time within the first kilobyte, where headers are."""
    data = bytearray(content)
    if not data:
        return b"\x00"
    reach = len(data) if random.random() < 0.5 else min(1024, len(data))
    for _ in range(2 ** int(random.integers(0, 7))):
        data[int(random.integers(reach))] ^= 1 << int(random.integers(8))
    return bytes(data)


def cut(content: bytes, random: Random) -> bytes:
    """Leave only the beginning."""
    return content[: int(random.integers(0, max(1, len(content))))]


def block_repeated(content: bytes, random: Random) -> bytes:
    """Write a block of it twice, or leave it out."""
    start = int(random.integers(0, max(1, len(content))))
    stop = min(len(content), start + int(random.integers(1, 4096)))
    return content[:stop] + content[start:] if random.random() < 0.5 else content[:start] + content[stop:]


def zeroed(content: bytes, random: Random) -> bytes:
    """Zeros from some place on, of the same length: what a power cut leaves."""
    start = int(random.integers(0, max(1, len(content))))
    return content[:start] + bytes(len(content) - start)


def another_kind(content: bytes, random: Random) -> bytes:
    """Something else under this name."""
    others = (b"", b"\x00" * 100, b"<html></html>", b"PK\x03\x04" + bytes(60), b"\x80\x04\x95", b"MZ" + bytes(200), b"\xff\xfe")
    return others[int(random.integers(len(others)))]


def huge_integer(content: bytes, random: Random) -> bytes:
    """Put a huge or impossible number of 4 or 8 bytes somewhere in the head of a binary file."""
    data = bytearray(content)
    width, form = ((4, "<I"), (4, ">I"), (8, "<Q"), (8, ">Q"))[int(random.integers(4))]
    place = 4 * int(random.integers(0, max(1, min(len(data), 512) // 4)))
    value = HUGE[int(random.integers(len(HUGE)))] % (1 << (8 * width))
    data[place : place + width] = struct.pack(form, value)
    return bytes(data)


def strange_number(content: bytes, random: Random) -> bytes:
    """Write something else for a number of a text file, or of the text before binary data."""
    found = list(re.finditer(rb"-?\d+(\.\d+)?", content[:200_000]))
    if not found:
        return flipped_bits(content, random)
    one = found[int(random.integers(len(found)))]
    new = STRANGE_NUMBERS[int(random.integers(len(STRANGE_NUMBERS)))]
    return content[: one.start()] + new.encode() + content[one.end() :]


def line_changed(content: bytes, random: Random) -> bytes:
    """Leave out, repeat or exchange lines of a text."""
    lines = content.split(b"\n")
    one, other = (int(random.integers(len(lines))) for _ in range(2))
    how = int(random.integers(3))
    if how == 0:
        del lines[one]
    elif how == 1:
        lines.insert(one, lines[other])
    else:
        lines[one], lines[other] = lines[other], lines[one]
    return b"\n".join(lines)


def json_changed(content: bytes, random: Random) -> bytes:
    """Remove or exchange one value of a JSON document, of whatever depth."""
    try:
        document = json.loads(content)
    except ValueError:
        return flipped_bits(content, random)
    places: list[tuple] = []

    def visit(node) -> None:
        keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
        for key in keys:
            places.append((node, key))
            visit(node[key])

    visit(document)
    if not places:
        return b"null"
    node, key = places[int(random.integers(len(places)))]
    values = (None, [], {}, -1, 1e308, True, [[]], 10**12, *STRANGE_TEXTS)
    if random.random() < 0.3:
        del node[key]
    else:
        node[key] = values[int(random.integers(len(values)))]
    return json.dumps(document).encode()


def png_claims(content: bytes, random: Random) -> bytes:
    """Let a PNG claim a size, with the right checksum."""
    width, height = ((60_000, 60_000), (2**31 - 1, 2**31 - 1), (0, 10), (1, 1), (540, 100_000))[int(random.integers(5))]
    head = b"IHDR" + struct.pack(">II", width, height) + content[24:29]
    return content[:12] + head + struct.pack(">I", zlib.crc32(head)) + content[33:]


def head_claims(content: bytes, random: Random) -> bytes:
    """Let the count or sizes in the text before binary data (PLY, NRRD) be 10^12 or 60,000 each."""
    pattern, claim = ((rb"(element (?:vertex|face) )\d+", b"1000000000000"), (rb"(sizes: )[\d ]+", b"60000 60000 60000"))[
        int(content.startswith(b"NRRD"))
    ]
    if not (found := list(re.finditer(pattern, content[:4096]))):
        return huge_integer(content, random)
    one = found[int(random.integers(len(found)))]
    return content[: one.end(1)] + claim + content[one.end() :]


def nifti_claims(content: bytes, random: Random) -> bytes:
    """Let a NIfTI-1 claim 32,767 voxels along each axis."""
    return content[:42] + struct.pack("<3h", *[2**15 - 1] * 3) + content[48:]


def dicom_claims(content: bytes, random: Random) -> bytes:
    """Let a DICOM picture (little endian) claim 65,535 rows or columns."""
    tag = (rb"\x28\x00\x10\x00", rb"\x28\x00\x11\x00")[int(random.integers(2))]
    found = re.search(tag + rb"(US\x02\x00|\x02\x00\x00\x00)", content, re.DOTALL)
    return flipped_bits(content, random) if found is None else content[: found.end()] + b"\xff\xff" + content[found.end() + 2 :]


def zip_bomb(content: bytes, random: Random) -> bytes:
    """Let the largest part of a zip archive (NumPy, torch) unpack to its beginning and 5 GB of zeros."""
    bomb = io.BytesIO()
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED, True, 1) as new:
            largest = max(old.infolist(), key=lambda part: part.file_size)
            for part in old.infolist():
                with new.open(part.filename, "w", force_zip64=True) as file:
                    file.write(old.read(part))
                    for _ in range(BOMB_BLOCKS if part is largest else 0):
                        file.write(bytes(1 << 26))
    except (zipfile.BadZipFile, ValueError):
        return flipped_bits(content, random)
    return bomb.getvalue()


ANY: tuple[Mutation, ...] = (flipped_bits, flipped_bits, cut, block_repeated, zeroed, another_kind)
BINARY: tuple[Mutation, ...] = (*ANY, huge_integer, huge_integer, strange_number)
TEXT: tuple[Mutation, ...] = (*ANY, strange_number, strange_number, line_changed, line_changed)
JSON: tuple[Mutation, ...] = (flipped_bits, cut, another_kind, strange_number, *[json_changed] * 6)
OF_SUFFIX = {
    ".json": JSON,
    **dict.fromkeys((".csv", ".txt", ".pp", ".obj"), TEXT),
    ".png": (*BINARY, png_claims, png_claims),
    **dict.fromkeys((".ply", ".nrrd"), (*BINARY, head_claims, head_claims)),
    ".nii": (*BINARY, nifti_claims, nifti_claims),
    ".dcm": (*BINARY, dicom_claims, dicom_claims),
    **dict.fromkeys((".pt", ".npz"), (*BINARY, zip_bomb, zip_bomb)),
}


def mutate(path: Path, random: Random) -> str:
    """Damage a file; returns how."""
    possible = OF_SUFFIX.get(path.suffix, BINARY)
    how = possible[int(random.integers(len(possible)))]
    content = how(path.read_bytes(), random)
    path.unlink()  # never through a hard link
    path.write_bytes(content)
    return how.__name__
