from pathlib import Path

import pytest

from cislens.errors import CislensError, MissingFileError
from cislens.example import example_path
from cislens.signal.datacard import FILE_NAME, DataCard
from cislens.signal.tracks import read_tracks, track_table


def test_a_card_is_read_back_as_it_was_written(tmp_path: Path) -> None:
    tracks = read_tracks(example_path("tracks.tsv"))
    unclipped = [*tracks.rows()]
    card = DataCard(2048, track_table(unclipped))
    (tmp_path / FILE_NAME).write_text(card.to_json())
    found = DataCard.read(tmp_path)
    assert found.length == 2048
    assert found.tracks.frame.equals(tracks.frame)


def test_a_missing_or_damaged_card_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match="data card of the model"):
        DataCard.read(tmp_path)
    (tmp_path / FILE_NAME).write_text('{"length": 10}')
    with pytest.raises(CislensError, match=r"data\.json is damaged"):
        DataCard.read(tmp_path)
