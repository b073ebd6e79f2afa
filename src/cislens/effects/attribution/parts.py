"""Maps of many regions on the disk while they are made: killed and started again, they go on.

Dimensions: n region, 4 channel A, C, G, T, L base.
"""

import json
import os
import shutil
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cislens.effects.attribution.attribute import Attributions
from cislens.effects.attribution.files import Maps
from cislens.errors import CislensError
from cislens.files import manifest_format, read_json, require_file, sync, write_atomic

FORMAT = "cislens attributions"
MANIFEST, WORK = "manifest.json", "work"
_SETTINGS = "settings.json"
MAPS = ("ohe.npz", "shap.npz", "regions.bed", "contributions.bw", "regions.tsv")
# What is made of the maps, each where it is asked for, and what it is called in the folder.
EXTRAS: Mapping[str, str] = {"seqlets": "seqlets.bed", "logos": "logos"}


def require_same(found: Mapping[str, Any], settings: Mapping[str, Any], folder: Path) -> None:
    """Refuse to mix what was asked for with what a folder holds.

    Raises:
        CislensError: naming the first setting that differs.
    """
    for name in sorted({*found, *settings}):
        if found.get(name) != settings.get(name):
            raise CislensError(
                f"{folder} holds attributions with {name} {found.get(name)!r}, asked for was "
                f"{settings.get(name)!r}; give another --out, or remove the folder."
            )


def require_folder(out: Path) -> None:
    """Refuse a file where a folder is to be.

    Raises:
        CislensError: if it is one.
    """
    if out.exists() and not out.is_dir():
        raise CislensError(f"{out} is a file; give a folder.")


def require_own(out: Path) -> None:
    """Refuse a folder that holds files of the names that are written, of somebody else.

    Raises:
        CislensError: naming the first of them.
    """
    require_folder(out)
    if manifest_format(out) == FORMAT:
        made = read_json(out / MANIFEST, "manifest of the maps").get("extras", {})
        names = [file for name, file in EXTRAS.items() if name not in made]
    elif (out / WORK / _SETTINGS).exists():
        return
    else:
        names = [MANIFEST, *MAPS, *EXTRAS.values()]
    foreign = [name for name in names if (out / name).exists()]
    if foreign:
        raise CislensError(
            f"{out} holds a {foreign[0]} that is not of attributions; give another folder."
        )


def held_settings(out: Path) -> dict[str, Any] | None:
    """What the maps of a folder are a function of, begun or whole; None if there are none."""
    for path, inside in ((out / MANIFEST, "settings"), (out / WORK / _SETTINGS, None)):
        if path.exists():
            held = read_json(path, "settings of the maps")
            found: dict[str, Any] = held.get(inside, {}) if inside else held
            return found
    return None


def finished_maps(out: Path) -> tuple[Maps, npt.NDArray[np.int8]]:
    """Hypothetical contributions and sequences of a finished folder, (n, 4, L) each, on the disk.

    They are unpacked into `work/` unless they are still there.

    Raises:
        MissingFileError, CislensError: if an array is missing or damaged.
    """
    whole = (out / WORK / _SETTINGS).exists()
    found = []
    for name, packed in (("hypothetical.npy", "shap.npz"), ("one_hot.npy", "ohe.npz")):
        if not whole:
            _unpack(require_file(out / packed, "attributions"), out / WORK / name)
        found.append(np.lib.format.open_memmap(out / WORK / name, mode="r"))
    return found[0], found[1]


def _unpack(path: Path, to: Path) -> None:
    try:
        with (
            zipfile.ZipFile(path) as archive,
            archive.open("arr_0.npy") as packed,
            to.open("wb") as plain,
        ):
            shutil.copyfileobj(packed, plain)
    except (zipfile.BadZipFile, zlib.error, KeyError, EOFError) as error:
        raise CislensError(
            f"attributions {path} are damaged ({error}); remove the folder and make them again."
        ) from None


class Parts:
    """Attributions of n regions as memory maps, with a mark for each stretch that is done.

    Args:
        folder: is there and held.
        settings: what the maps are a function of; JSON can hold it.
        shape: (n, 4, L).
        at_once: regions of a stretch.

    Raises:
        CislensError: if the folder was begun with other settings.
    """

    def __init__(
        self, folder: Path, settings: Mapping[str, Any], shape: tuple[int, int, int], at_once: int
    ) -> None:
        self.folder = folder
        if not (folder / _SETTINGS).exists():
            _create(folder, settings, shape)
        require_same(read_json(folder / _SETTINGS, "settings of the maps"), settings, folder)
        self.hypothetical_n4L: Maps = _open(folder / "hypothetical.npy")
        self.one_hot_n4L: npt.NDArray[np.int8] = _open(folder / "one_hot.npy")
        self.scores_n2: Maps = _open(folder / "scores.npy")
        self._stretches = [
            slice(start, min(start + at_once, shape[0])) for start in range(0, shape[0], at_once)
        ]

    def missing(self) -> list[slice]:
        """The rows of each stretch that is still to be made, in order."""
        return [rows for rows in self._stretches if not self._mark(rows).exists()]

    def put(self, rows: slice, found: Attributions) -> None:
        """Write a stretch, and then its mark."""
        self.hypothetical_n4L[rows] = found.hypothetical
        self.one_hot_n4L[rows] = found.one_hot
        self.scores_n2[rows] = np.stack([found.score, found.reference], axis=1)
        for path in self.folder.glob("*.npy"):
            sync(path)
        write_atomic(self._mark(rows), "")

    def _mark(self, rows: slice) -> Path:
        return self.folder / f"{rows.start}-{rows.stop}.done"


def _create(folder: Path, settings: Mapping[str, Any], shape: tuple[int, int, int]) -> None:
    kinds = {
        "hypothetical.npy": (np.float32, shape),
        "one_hot.npy": (np.int8, shape),
        "scores.npy": (np.float32, (shape[0], 2)),
    }
    for name, (kind, size) in kinds.items():
        values = np.lib.format.open_memmap(folder / name, mode="w+", dtype=kind, shape=size)
        with (folder / name).open("r+b") as file:
            # A mapped file with holes ends the process where the disk is full.
            os.posix_fallocate(file.fileno(), 0, values.offset + values.nbytes)
        sync(folder / name)
    write_atomic(folder / _SETTINGS, json.dumps(settings))


def _open(path: Path) -> Any:
    return np.lib.format.open_memmap(path, mode="r+")
