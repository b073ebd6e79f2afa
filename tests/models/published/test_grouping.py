"""The types of the published tracks: counts, exceptions, and the real tables."""

from pathlib import Path

import pytest
from checkpoints import GROUPS

from cislens.errors import CislensError
from cislens.models.published.grouping import (
    decoder_groups,
    exceptions,
    published_groups,
    published_rows,
    rule_groups,
)
from cislens.signal.tracks import Track, TrackTable, read_tracks, track_table

RULE = {"human": (684, 1_993, 1_998, 638), "mouse": (228, 308, 750, 357)}
PUBLISHED = {"human": (684, 1_889, 2_102, 638), "mouse": (228, 291, 767, 357)}


def counts(groups: tuple[str, ...]) -> tuple[int, ...]:
    return tuple(groups.count(name) for name in GROUPS)


@pytest.mark.parametrize("species", ["human", "mouse"])
def test_counts_are_the_published_ones(species: str) -> None:
    assert published_rows(species) == sum(PUBLISHED[species])
    assert counts(rule_groups(species)) == RULE[species]
    assert counts(published_groups(species)) == PUBLISHED[species]
    assert len(exceptions(species)) == {"human": 104, "mouse": 17}[species]
    ruled = rule_groups(species)
    assert {ruled[row] for row in exceptions(species)} == {"TF"}


@pytest.mark.parametrize("species", ["human", "mouse"])
def test_rows_are_those_of_the_real_table(core_data: Path, species: str) -> None:
    folder = core_data / "basenji_tfrecords"
    table = read_tracks(folder / f"enformer_basenji2_targets_{species}.txt.gz", species)
    assert rule_groups(species) == tuple(track.group for track in table.rows())
    groups = decoder_groups(species, len(table), table, "x")
    assert groups == decoder_groups(species, len(table), None, "x") == published_groups(species)
    moved = TrackTable(table.frame[[1_000, *range(1, 1_000), 0, *range(1_001, len(table))]])
    with pytest.raises(CislensError, match=r"not the published one: row 0 \(.*\) is of group"):
        decoder_groups(species, len(table), moved, "x")


def test_other_tracks_need_a_table_with_groups_of_the_decoder() -> None:
    with pytest.raises(CislensError, match=r"predicts 10 tracks of human, .*--targets human=FILE"):
        decoder_groups("human", 10, None, "x")
    table = track_table([Track("a", "a.bw", "yeast", "ATAC"), Track("b", "b.bw", "yeast", "MNase")])
    with pytest.raises(CislensError, match="'b' of yeast is of group 'MNase', and the decoder"):
        decoder_groups("yeast", 2, table, "x")
