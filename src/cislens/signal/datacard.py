"""What a trained model must remember of its data to be used on other regions and genomes."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from cislens.errors import CislensError
from cislens.files import require_file
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
        path = require_file(Path(folder) / FILE_NAME, "data card of the model")
        try:
            card = json.loads(path.read_text(encoding="utf-8"))
            for row in card["tracks"]:
                row["clip"] = float("inf") if row["clip"] is None else row["clip"]
            return cls(int(card["length"]), track_table(Track(**row) for row in card["tracks"]))
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise CislensError(f"{path} is damaged ({error!r}); restore the folder.") from None
