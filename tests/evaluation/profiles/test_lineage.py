"""What a run has learned through the runs before it, on stores that split one genome otherwise."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cislens.cli.data import plan_store
from cislens.evaluation.profiles.arms import Trained, seen_windows
from cislens.evaluation.profiles.lineage import lineage_of
from cislens.evaluation.profiles.passes import block_kind
from cislens.evaluation.profiles.run import _unknown
from cislens.example import example_path
from cislens.files import file_digest
from cislens.recipes.profiles import DataRecipe
from cislens.recipes.reading import read_recipe
from cislens.sequence.store import SequenceStore
from cislens.signal.build import build_planned
from cislens.signal.store import ProfileStore


@pytest.fixture(scope="module")
def other_store(tmp_path_factory: pytest.TempPathFactory) -> ProfileStore:
    """The packaged yeast as in `small_store`, split with another seed."""
    folder = tmp_path_factory.mktemp("other")
    table = pl.read_csv(example_path("tracks.tsv"), separator="\t").filter(species="yeast")
    root = f"{example_path('tracks.tsv').parent}/"
    table.with_columns(file=pl.lit(root) + pl.col("file")).write_csv(
        folder / "tracks.tsv", separator="\t"
    )
    recipe = folder / "data.yaml"
    recipe.write_text(
        "genomes: {yeast: example:yeast_mini/sacCer3_II_IV_XVI.fa.gz}\n"
        "tracks: tracks.tsv\nlength: 1024\nstride: 4096\nseed: 5\nsplit: {block_bp: 65536}\n"
    )
    return build_planned(folder / "store", plan_store(read_recipe(recipe, DataRecipe)))


def run_of(folder: Path, store: ProfileStore, before: Path | None = None) -> Path:
    """A run folder with weights that nobody reads."""
    (folder / "model").mkdir(parents=True)
    (folder / "model" / "config.json").write_text("{}")
    (folder / "model" / "model.safetensors").write_bytes(folder.name.encode())
    manifest: dict[str, object] = {"store": {"path": str(store.path), "digest": store.digest}}
    if before is not None:
        digest = file_digest(before / "model" / "model.safetensors")
        manifest["ancestor"] = {"path": str(before / "model"), "digest": digest, "freeze": "none"}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    return folder


def test_windows_that_an_ancestor_learned_are_seen(
    small_store: ProfileStore, other_store: ProfileStore, tmp_path: Path
) -> None:
    first = run_of(tmp_path / "first", other_store)
    second = run_of(tmp_path / "second", small_store, first)
    third = run_of(tmp_path / "third", small_store, second)
    windows, theirs = small_store.windows("yeast"), other_store.windows("yeast")
    rows = np.flatnonzero((windows["split"] == "test").to_numpy())
    learned = theirs.filter(pl.col("split") != "test").select("chrom", "start").rows()
    same = [place in set(learned) for place in windows[rows].select("chrom", "start").rows()]
    trained = Trained.find(third)
    seen = seen_windows(trained, small_store, "yeast", rows)
    assert sum(same) > len(rows) // 2
    assert seen[np.array(same)].all()
    lineage = lineage_of(trained.run, small_store)
    assert [store.digest for store in lineage.stores] == [small_store.digest, other_store.digest]
    assert lineage.whole and not _unknown({"third": [trained]}, small_store)


def test_windows_of_every_store_of_a_mixture_are_seen(
    small_store: ProfileStore, sequence_store: SequenceStore, tmp_path: Path
) -> None:
    """Test windows that lie in tiles which the sequence store trains on or validates with."""
    folder = run_of(tmp_path / "mixture", small_store)
    manifest = json.loads((folder / "manifest.json").read_text())
    both = [
        {"path": str(store.path), "digest": store.digest} for store in (small_store, sequence_store)
    ]
    (folder / "manifest.json").write_text(json.dumps({**manifest, "stores": both}))
    trained = Trained.find(folder)
    lineage = lineage_of(trained.run, small_store)
    assert lineage.whole
    assert [store.digest for store in lineage.stores] == [store["digest"] for store in both]
    windows = small_store.windows("yeast")
    rows = np.flatnonzero((windows["split"] == "test").to_numpy())
    tiles = sequence_store.windows("yeast").filter(pl.col("split") != "test")
    inside = [
        not tiles.filter(chrom=chrom).filter(
            (pl.col("start") <= start) & (pl.col("end") >= end)
        ).is_empty()
        for chrom, start, end in windows[rows].select("chrom", "start", "end").rows()
    ]  # fmt: skip
    assert sum(inside) > len(rows) // 4
    assert seen_windows(trained, small_store, "yeast", rows)[np.array(inside)].all()
    gone = [both[0], {**both[1], "path": str(tmp_path / "nowhere")}]
    (folder / "manifest.json").write_text(json.dumps({**manifest, "stores": gone}))
    assert not lineage_of(Trained.find(folder).run, small_store).whole


@pytest.mark.parametrize("fault", ["gone", "changed", "no run", "damaged", "store gone"])
def test_a_broken_link_is_said(
    small_store: ProfileStore, tmp_path: Path, fault: str, caplog: pytest.LogCaptureFixture
) -> None:
    first = run_of(tmp_path / "first", small_store)
    second = run_of(tmp_path / "second", small_store, first)
    trained = Trained.find(run_of(tmp_path / "third", small_store, second))
    rows = np.arange(2)
    assert not seen_windows(trained, small_store, "yeast", rows).any()
    assert caplog.text == "" and not _unknown({"third": [trained]}, small_store)
    manifest = first / "manifest.json"
    match fault:
        case "gone":
            (first / "model" / "model.safetensors").unlink()
        case "changed":
            (first / "model" / "model.safetensors").write_bytes(b"others")
        case "no run":
            manifest.unlink()
        case "damaged":
            manifest.write_text("{")
        case _:
            manifest.write_text(json.dumps({"store": {"path": "nowhere", "digest": "0"}}))
    assert not seen_windows(trained, small_store, "yeast", rows).any()
    assert "not known or not there" in caplog.text
    assert "It is not known what third" in _unknown({"third": [trained]}, small_store)[0]


def test_blocks_are_named_for_what_they_are(small_store: ProfileStore) -> None:
    assert block_kind(small_store, "yeast") == (
        "stretches of 65,536 bp, of which homologous ones lie in one part"
    )
    split = small_store.manifest["params"]["split"]
    for change, entry, kind in (
        ({"valid": {"yeast": ["II"]}}, {}, "whole chromosomes"),
        ({"from": "records"}, {"placed": True}, "runs of overlapping or touching windows"),
        ({"from": "records"}, {"placed": False}, "single windows, whose places are not known"),
    ):
        made = object.__new__(ProfileStore)
        made.__dict__ |= small_store.__dict__
        species = {"yeast": small_store.manifest["species"]["yeast"] | entry}
        made.manifest = {"params": {"split": split | change}, "species": species}
        assert block_kind(made, "yeast") == kind
