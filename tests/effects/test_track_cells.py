"""Means of tracks over regions."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cislens.effects.track_cells import predicted_regions, region_means
from cislens.errors import CislensError
from cislens.representations.h5ad import write_h5ad
from cislens.signal.bigwig import write_bigwig

anndata = pytest.importorskip("anndata", reason="anndata of the extra `scverse` is missing")

BED = "c1\t0\t20\nc1\t5\t15\nc1\t5\t15\nc2\t0\t10\nc1\t90\t100\nc1\t15\t30\n"
MEANS = [1.5, 1.5, 7.0, np.nan, 5 / 3]  # c1: 1, 2 and 1.5 in bins of 10 bp; c2: 7


def bigwig(path: Path, factor: float = 1) -> None:
    values = factor * np.array([1, 2, 1.5, 7], np.float32)
    write_bigwig(
        path, {"c1": 100, "c2": 40}, ["c1", "c1", "c1", "c2"], [0, 10, 20, 0], [10, 20, 30, 10],
        values,
    )  # fmt: skip


@pytest.fixture
def predicted(tmp_path: Path) -> Path:
    """Two tracks with a spread, as `cislens predict` would leave them, and regions."""
    folder = tmp_path / "predicted"
    folder.mkdir()
    for factor, name in enumerate(("a", "a.spread", "b", "b.spread"), 1):
        bigwig(folder / f"{name}.bw", factor)
    (folder / "tracks.tsv").write_text(
        "id\tfile\tbiosample\tempty\na\ta.bw\tliver\t\nb\tb.bw\t<i>\t\n"
    )
    settings = {"species": "fly"}
    (folder / "manifest.json").write_text(
        json.dumps(
            {
                "format": "cislens predictions", "genome": "g", "bin_size": 10,
                "settings": settings, "files": sorted(p.name for p in folder.glob("*.bw")),
            }
        )
    )  # fmt: skip
    (tmp_path / "regions.bed").write_text(BED)
    return folder


def test_means_are_over_the_bases_that_have_a_value(tmp_path: Path) -> None:
    bigwig(tmp_path / "x.bw")
    intervals = pl.DataFrame(
        {"chrom": ["c1", "c1", "c2", "c1", "c1"], "start": [0, 5, 0, 90, 15],
         "end": [20, 15, 10, 100, 30]}
    )  # fmt: skip
    found = region_means(tmp_path / "x.bw", intervals)
    assert found == pytest.approx(np.array(MEANS), nan_ok=True, rel=1e-6)


def test_tracks_are_rows_and_regions_columns(predicted: Path, tmp_path: Path) -> None:
    write_h5ad(predicted_regions(predicted, tmp_path / "regions.bed"), tmp_path / "x.h5ad")
    found = anndata.read_h5ad(tmp_path / "x.h5ad")
    assert list(found.obs_names) == ["a", "b"] and list(found.obs.columns) == ["file", "biosample"]
    assert list(found.var_names) == ["c1:0-20", "c1:5-15", "c2:0-10", "c1:90-100", "c1:15-30"]
    for row, factor in enumerate((1, 3)):
        expected = factor * np.array(MEANS)
        assert found.X[row] == pytest.approx(expected, nan_ok=True, rel=1e-6)
    assert found.layers["spread"][1] == pytest.approx(4 * np.array(MEANS), nan_ok=True, rel=1e-6)
    assert found.uns["species"] == "fly"


def test_another_genomes_regions_and_other_formats_are_refused(
    predicted: Path, tmp_path: Path
) -> None:
    bed = tmp_path / "other.bed"
    bed.write_text("1\t0\t20\n")
    with pytest.raises(CislensError, match="regions on '1'"):
        predicted_regions(predicted, bed)
    bed.write_text("c1\t0\t20\nc1\t90\t9000\n")
    with pytest.raises(CislensError, match=r"1 regions beyond the end .* c1:90-9000"):
        predicted_regions(predicted, bed)
    (predicted / "tracks.tsv").write_text("id\tbiosample\na\tliver\n")
    with pytest.raises(CislensError, match="--format bigwig"):
        predicted_regions(predicted, tmp_path / "regions.bed")


def test_a_damaged_folder_and_files_outside_it_are_refused(predicted: Path, tmp_path: Path) -> None:
    bed = tmp_path / "regions.bed"
    manifest = predicted / "manifest.json"
    whole = manifest.read_text()
    manifest.write_text(whole.replace('"genome"', '"gnome"'))
    with pytest.raises(CislensError, match=r"is damaged.*'genome'"):
        predicted_regions(predicted, bed)
    manifest.write_text(whole)
    bigwig(tmp_path / "outside.bw")
    (predicted / "tracks.tsv").write_text("id\tfile\na\t../outside.bw\n")
    with pytest.raises(CislensError, match=r"outside\.bw"):
        predicted_regions(predicted, bed)
