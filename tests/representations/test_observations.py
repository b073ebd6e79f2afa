"""Embeddings as tables of scanpy's kind: rows, views and places are those of the store."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cislens.genome.codes import Codes
from cislens.randomness import generator
from cislens.representations.baselines import KmerCounts
from cislens.representations.h5ad import write_h5ad
from cislens.representations.observations import embedded_sequences
from cislens.representations.store import EmbeddingStore
from cislens.representations.writing import write_embeddings

anndata = pytest.importorskip("anndata", reason="anndata of the extra `scverse` is missing")


def sequences(count: int) -> list[Codes]:
    draw = generator("observations")
    return [draw.integers(0, 4, 60).astype(np.uint8) for _ in range(count)]


def store(folder: Path, ids: list[str]) -> EmbeddingStore:
    return write_embeddings(
        folder, KmerCounts(2), sequences(len(ids)), ids, species="yeast", stranded=False,
        task=("planted", "0" * 64),
    )  # fmt: skip


def test_regions_have_their_places_and_the_features_of_the_store(tmp_path: Path) -> None:
    ids = [f"chr:{at}:{at * 100}-{at * 100 + 60}" for at in range(30)]
    given = store(tmp_path / "store", ids)
    write_h5ad(embedded_sequences(given), tmp_path / "x.h5ad")
    found = anndata.read_h5ad(tmp_path / "x.h5ad")
    assert np.array_equal(found.X, given.read(given.views[-1]))
    assert list(found.obs_names) == ids and list(found.obs["chrom"])[:2] == ["chr:0", "chr:1"]
    assert list(found.obs["start"]) == [at * 100 for at in range(30)]
    assert (found.obs["end"] - found.obs["start"] == found.obs["length"]).all()
    assert found.uns["embeddings"] == given.digest and found.uns["task"] == "planted"
    # As others use it: without their first component what is left varies less.
    from sklearn.decomposition import PCA

    fitted = PCA(5, random_state=0).fit(found.X)
    assert (np.diff(fitted.explained_variance_) <= 0).all()


def test_alleles_and_parts_have_what_their_example_has(tmp_path: Path) -> None:
    given = store(tmp_path / "store", ["a", "b:1", "a:alt", "c:1", "c:2", "unknown"])
    about = pl.DataFrame({"example_id": ["c", "a", "b:1"], "label": [3.0, 1.0, 2.0]})
    obs = embedded_sequences(given, about).obs
    assert obs["label"].to_list() == [1.0, 2.0, 1.0, 3.0, 3.0, None]
    assert obs["example_id"].to_list() == given.index["example_id"].to_list()
