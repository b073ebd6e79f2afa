"""What the runs of a bench were trained on."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from cislens.errors import CislensError
from cislens.evaluation.contestants import load_representations, training_stores
from cislens.motifs.store import RegionStore
from cislens.recipes.schema import BenchRecipe
from cislens.sequence.store import SequenceStore


def run_of(folder: Path, *stores: Any) -> Path:
    """A finished run without a model; of several stores, as of a mixture."""
    known = [{"path": str(store.path), "digest": store.digest} for store in stores]
    folder.mkdir()
    more = {"stores": known} if len(known) > 1 else {}
    (folder / "manifest.json").write_text(json.dumps({"store": known[0], **more}))
    return folder


def test_all_stores_of_a_mixture_are_what_its_run_was_trained_on(
    region_store: RegionStore, sequence_store: SequenceStore, tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    one = run_of(tmp_path / "one", region_store)
    both = run_of(tmp_path / "both", sequence_store, region_store)
    found = training_stores(BenchRecipe(runs={"one": one, "both": both}))
    assert [store.digest for store in found] == [region_store.digest, sequence_store.digest]
    # The named store comes first; what a run has seen beside it is not forgotten.
    named = BenchRecipe(runs={"both": both}, store=region_store.path)
    assert [store.digest for store in training_stores(named)] == [
        region_store.digest, sequence_store.digest,
    ]  # fmt: skip
    assert not caplog.records
    manifest = json.loads((both / "manifest.json").read_text())
    manifest["stores"][0]["path"] = str(tmp_path / "nowhere")
    (both / "manifest.json").write_text(json.dumps(manifest))
    with caplog.at_level(logging.WARNING, logger="cislens"):
        assert [store.digest for store in training_stores(named)] == [region_store.digest]
    assert "nothing is known of what these were trained on: both" in caplog.text


def test_a_run_of_another_store_than_the_named_one_is_refused(
    region_store: RegionStore, sequence_store: SequenceStore, tmp_path: Path
) -> None:
    run = run_of(tmp_path / "run", region_store)
    with pytest.raises(CislensError, match="was trained on another store"):
        load_representations(BenchRecipe(runs={"run": run}, store=sequence_store.path))
