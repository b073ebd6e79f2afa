"""Regions in cell types as vectors, and such vectors on disk."""

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from cislens.cli.app import app
from cislens.errors import CislensError
from cislens.models.genebert.multimodal import MultimodalModel
from cislens.models.genebert.presets import multimodal_config
from cislens.models.saving import save_model
from cislens.motifs.store import RegionStore
from cislens.representations.joint import JointEmbedding, load_joint, read_joint, write_joint


@pytest.fixture(scope="module")
def model(region_store: RegionStore) -> MultimodalModel:
    config = multimodal_config(
        "genebert-plus-tiny", region_store.motif_ids, region_store.width, 8, False,
        region_store.constants_digest,
    )  # fmt: skip
    torch.manual_seed(0)
    return MultimodalModel(config).eval()


def test_the_sequence_part_is_the_same_in_every_cell_type_and_the_rest_is_not(
    model: MultimodalModel, region_store: RegionStore
) -> None:
    embedding = JointEmbedding(model, region_store, "m")
    rows = np.arange(100)
    first, last = (embedding.embed(rows, np.full(100, cell)) for cell in (0, 2))
    assert first.shape == (100, embedding.dim) == (100, 128)
    np.testing.assert_allclose(first[:, :64], last[:, :64], atol=1e-6)
    assert np.abs(first[:, 64:] - last[:, 64:]).max() > 1e-3


def test_a_vector_does_not_depend_on_its_neighbors_in_the_batch(
    model: MultimodalModel, region_store: RegionStore
) -> None:
    embedding = JointEmbedding(model, region_store, "m")
    rows, cells = np.arange(70), np.arange(70) % 3
    whole = embedding.embed(rows, cells)
    np.testing.assert_allclose(embedding.embed(rows[66:], cells[66:]), whole[66:], atol=1e-5)


def test_written_vectors_are_those_embedded_and_a_second_run_keeps_them(
    model: MultimodalModel, region_store: RegionStore, tmp_path: Path
) -> None:
    save_model(model, tmp_path / "model", "card")
    embedding = load_joint(tmp_path / "model", region_store)
    cell = region_store.cells["cell_id"][1]
    write_joint(embedding, "w", [cell], tmp_path / "out")
    regions, values = read_joint(tmp_path / "out", cell)
    rows = np.arange(regions.height)
    np.testing.assert_array_equal(values, embedding.embed(rows, np.full(len(rows), 1)))
    file = tmp_path / "out" / "cell-1.npy"
    before = file.stat().st_mtime_ns
    made = write_joint(embedding, "w", [], tmp_path / "out")
    assert file.stat().st_mtime_ns == before
    assert set(made["cells"]) == set(region_store.cells["cell_id"])
    with pytest.raises(CislensError, match="embeddings of another model or store"):
        write_joint(embedding, "other", [], tmp_path / "out")
    with pytest.raises(CislensError, match=r"holds 'README\.md' and no embeddings"):
        write_joint(embedding, "w", [], tmp_path / "model")
    assert not (tmp_path / "model" / "manifest.json").exists()
    with pytest.raises(CislensError, match=r"no cell type 'liver'"):
        write_joint(embedding, "w", ["liver"], tmp_path / "out")
    with pytest.raises(CislensError, match=r"no cell type 'liver'"):
        read_joint(tmp_path / "out", "liver")
    with pytest.raises(CislensError, match="holds no finished embeddings"):
        read_joint(tmp_path, cell)


def exported_as_embedded(folder: Path, path: Path, store: RegionStore) -> None:
    """`cislens export`: a row for each region in each cell type that was embedded."""
    anndata = pytest.importorskip("anndata", reason="anndata of the extra `scverse` is missing")
    run = CliRunner().invoke(app, ["export", str(folder), "--out", str(path)])
    assert run.exit_code == 0, run.exception
    table, cell = anndata.read_h5ad(path), str(store.cells["cell_id"][0])
    assert list(table.obs_names) == [f"{name}|{cell}" for name in store.regions["region_id"]]
    assert np.array_equal(table.X, read_joint(folder, cell)[1])
    assert set(table.obs["cell"]) == {cell} and list(table.obs["start"]) == list(
        store.regions["start"]
    )


def test_the_command_embeds_and_refuses_what_does_not_go_together(
    model: MultimodalModel, region_store: RegionStore, model_folder: Path, tmp_path: Path
) -> None:
    save_model(model, tmp_path / "model", "card")
    call = ["embed", "--regions", str(region_store.path), "--out", str(tmp_path / "out")]
    cell = str(region_store.cells["cell_id"][0])
    run = CliRunner().invoke(
        app, [*call, "--model", str(tmp_path / "model"), "--cell", cell, "--json"]
    )
    assert run.exit_code == 0, run.output
    assert read_joint(tmp_path / "out", cell)[1].shape[1] == 128
    exported_as_embedded(tmp_path / "out", tmp_path / "cells.h5ad", region_store)
    for more, message in (
        ([], "--regions needs --model"),
        (["--model", str(tmp_path / "model"), "--fasta", "x.fa"], "--regions goes with --model"),
        (["--model", str(model_folder)], "only multi-modal models know cell types"),
    ):
        failed = CliRunner().invoke(app, [*call, *more])
        assert failed.exit_code != 0
        assert message in str(failed.exception) + failed.output
