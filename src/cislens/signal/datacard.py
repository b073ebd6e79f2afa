"""What a trained model must remember of its data to be used on other regions and genomes."""

import json
import os
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from cislens.errors import CislensError
from cislens.files import read_json
from cislens.signal.tracks import Track, TrackTable, track_table

FILE_NAME = "data.json"


@dataclass(frozen=True)
class DataCard:
    """Length of the training windows (bp) and the tracks, in head order, with their scaling."""

    length: int
    tracks: TrackTable

    def to_json(self) -> str:
        """As text; infinite clips are written as null."""
        rows = [asdict(track) for track in self.tracks.rows()]
        for row in rows:
            row["clip"] = None if row["clip"] == float("inf") else row["clip"]
        return json.dumps({"length": self.length, "tracks": rows}, indent=1) + "\n"

    @classmethod
    def read(cls, folder: str | os.PathLike[str]) -> "DataCard":
        """The card of a model folder.

        Raises:
            MissingFileError: if the folder has none.
            CislensError: if it is damaged.
        """
        path = Path(folder) / FILE_NAME
        card = read_json(path, "data card of the model")
        length, rows = card.get("length"), card.get("tracks")
        if type(length) is not int or length < 1 or not isinstance(rows, list):
            raise CislensError(f"{path} is damaged: no length or no tracks; restore the folder.")
        return cls(length, track_table(_track(row, path) for row in rows))


def _track(row: Any, path: Path) -> Track:
    known: dict[str, Any] = {field.name: field.type for field in fields(Track)}
    values: dict[str, Any] = dict(row) if isinstance(row, dict) else {}
    if values.get("clip", 0) is None:
        values["clip"] = float("inf")
    wrong = {"id", "file", "species"} - values.keys()
    for name, value in values.items():
        kind = (int, float) if known.get(name) is float else str
        if name not in known or not isinstance(value, kind) or isinstance(value, bool):
            wrong.add(name)
    if wrong:
        raise CislensError(
            f"{path} describes a track whose {', '.join(sorted(wrong))} cannot be understood; "
            "restore the folder."
        )
    numbers = {name: float(values[name]) for name in values if known[name] is float}
    return Track(**(values | numbers))
