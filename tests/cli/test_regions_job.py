"""Regions, training, embedding and judging on one packaged genome, through the verbs."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from cislens.cli.app import app
from cislens.errors import CislensError
from cislens.example import example_path
from cislens.representations.store import EmbeddingStore

DATA = """\
genome: example:yeast_mini/sacCer3_II_IV_XVI.fa.gz
assembly: sacCer3
cells:
  whole: {peaks: example:yeast_mini/atac_peaks_macs3.narrowPeak.gz}
  partial: {peaks: partial.narrowPeak}
  held-out: {peaks: held-out.narrowPeak}
width: 128
margin: 16
motifs: motifs.meme
archetypes: none
split: {valid: [chrII], test: [chrXVI], test_cells: [held-out]}
"""
TRAIN = """\
store: store
model:
  preset: genebert-plus-tiny
  encoder: {dim: 16, depth: 1, heads: 2}
  regions: {dim: 16, depth: 1, heads: 2}
  joint_dim: 16
objective: {name: multimodal, context: 6}
training: {steps: 20, batch_size: 16, validate_every: 10, ema_decay: 0.5}
"""


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def call(*arguments: object) -> dict[str, Any]:
    """A verb with --json: its one object."""
    found: dict[str, Any] = json.loads(invoke(*arguments, "--json"))
    return found


def refused(*arguments: object) -> str:
    with pytest.raises(CislensError) as caught:
        CliRunner().invoke(app, [*map(str, arguments)], catch_exceptions=False)
    return str(caught.value)


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of three cell types, one held out, and a run of 20 steps; `train.txt` is its text."""
    folder = tmp_path_factory.mktemp("project")
    with gzip.open(example_path("yeast_mini/atac_peaks_macs3.narrowPeak.gz"), "rt") as file:
        peaks = list(file)
    for cell, left_out in {"partial": 0, "held-out": 1}.items():
        kept = [line for at, line in enumerate(peaks) if at % 2 != left_out]
        (folder / f"{cell}.narrowPeak").write_text("".join(kept))
    with gzip.open(example_path("motifs/JASPAR2026_CORE_fungi.meme.gz"), "rt") as file:
        (folder / "motifs.meme").write_text("MOTIF".join(file.read().split("MOTIF")[:13]))
    (folder / "data.yaml").write_text(DATA)
    (folder / "train.yaml").write_text(TRAIN)
    built = call("data", "regions", folder / "data.yaml", "--out", folder / "store")
    assert built["cells"]["held-out"]["split"] == "test"
    text = invoke("train", folder / "train.yaml", "--out", folder / "run")
    (folder / "train.txt").write_text(text)
    return folder


def test_training_answers_in_a_few_lines(project: Path) -> None:
    """Keys and headline values, no list of motifs; with --json the whole manifest."""
    lines = (project / "train.txt").read_text().splitlines()
    keys = [line.partition(":")[0] for line in lines]
    assert keys == ["run", "model", "store", "objective", "weights", "valid", "time"]
    assert max(map(len, lines)) < 300
    assert "multimodal, seed 0" in lines[3]
    assert all(name in lines[5] for name in ("loss", "masked/accuracy", "match/auroc"))
    manifest = call("train", project / "train.yaml", "--out", project / "run")
    assert len(manifest["model"]["motifs"]) == 12
    assert manifest["ledger"]["steps"] == 20


def test_a_dry_run_writes_nothing(project: Path, tmp_path: Path) -> None:
    shown = call("train", project / "train.yaml", "--out", tmp_path / "run", "--dry-run")
    assert [part["cell_id"] for part in shown["cells"]] == [["whole", "partial"], ["held-out"]]
    assert shown["steps"] == 20
    less = call(
        "train", project / "train.yaml", "--out", tmp_path / "run", "--dry-run",
        "--without", "regions",
    )  # fmt: skip
    assert less["parameters"] == shown["parameters"]
    message = refused(
        "train", project / "train.yaml", "--out", tmp_path / "run", "--without", "next"
    )
    assert "no term 'next' to leave out" in message
    assert not (tmp_path / "run").exists()


def test_its_encoder_embeds_like_any_other(project: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    fasta = tmp_path / "some.fa"
    fasta.write_text(
        "".join(f">s{i}\n{''.join(rng.choice(list('ACGT'), 90 + i))}\n" for i in range(6))
    )
    found = call(
        "embed", "--model", project / "run", "--fasta", fasta, "--views", "all",
        "--out", tmp_path / "embedded",
    )  # fmt: skip
    assert found["sequences"] == 6
    assert any(view.startswith("L1.") for view in found["views"])
    store = EmbeddingStore.open(tmp_path / "embedded")
    assert len(store) == 6


def test_a_model_folder_can_be_shown_and_checked(project: Path) -> None:
    shown = call("model", "show", project / "run" / "model")
    assert shown["encoder"]["kind"] == "genebert-plus"
    assert shown["width"] == 128
    assert call("model", "check", project / "run" / "model")["findings"] == []


def test_verbs_of_profiles_refuse_it(project: Path, small_store: Any, tmp_path: Path) -> None:
    genome = example_path("yeast_mini/sacCer3_II_IV_XVI.fa.gz")
    bed = tmp_path / "some.bed"
    bed.write_text("chrII\t1000\t2000\n")
    message = refused(
        "predict", project / "run" / "model", "--genome", genome, "--species", "yeast",
        "--regions", bed, "--out", tmp_path / "tracks",
    )  # fmt: skip
    assert "holds a MultimodalModel, which predicts no profiles" in message
    message = refused(
        "evaluate", project / "run", "--store", small_store.path, "--out", tmp_path / "judged"
    )
    assert "holds a MultimodalModel, which predicts no profiles" in message


def test_its_embeddings_are_judged_on_the_cell_type_held_out(project: Path, tmp_path: Path) -> None:
    found = call(
        "evaluate", f"joint={project / 'run'}", "--store", project / "store",
        "--out", tmp_path / "judged", "--draws", 100,
    )  # fmt: skip
    text = json.dumps(found)
    assert "joint" in text
    assert (tmp_path / "judged").is_dir()
