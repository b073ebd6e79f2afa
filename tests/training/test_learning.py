"""Self-distillation on a made genome: it learns what is there, and a broken one is stopped.

Dimensions: N window, L base pair, D channel.
"""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from cislens.models.registry import build_encoder
from cislens.models.saving import load_model
from cislens.models.sequence import SequenceModel
from cislens.objectives.multimodal.metrics import auroc
from cislens.recipes.schema import TrainRecipe
from cislens.recipes.sequence import SequenceRecipe
from cislens.sequence.build import build_sequences
from cislens.sequence.store import SequenceStore
from cislens.training.fit import fit

pytestmark = pytest.mark.slow

WINDOW, STEPS = 160, 240
MOTIF = np.frombuffer(b"TGACGTCATTCGAGCA", np.uint8)
BASES = np.frombuffer(b"ACGT", np.uint8)
LABELED = 100

Letters = npt.NDArray[np.uint8]
Bools = npt.NDArray[np.bool_]


def windows(count: int, copies: int, rng: np.random.Generator) -> tuple[Letters, Bools]:
    """Random windows (N, L), half of them with the motif; the others have its bases, shuffled."""
    letters_NL = BASES[rng.integers(0, 4, (count, WINDOW))]
    own_N = rng.random(count) < 0.5
    for row, own in zip(letters_NL, own_N, strict=True):
        for at in rng.choice(WINDOW // len(MOTIF), copies, replace=False) * len(MOTIF):
            row[at : at + len(MOTIF)] = MOTIF if own else rng.permutation(MOTIF)
    return letters_NL, own_N


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> SequenceStore:
    """Four chromosomes of 128 kb, half of whose places are dense with the motif."""
    folder, rng = tmp_path_factory.mktemp("made"), np.random.default_rng(0)
    chroms = [windows(800, 5, rng)[0].tobytes().decode() for _ in range(4)]
    fasta = folder / "genome.fa"
    fasta.write_text("".join(f">chr{at}\n{chrom}\n" for at, chrom in enumerate(chroms, 1)))
    split = {"valid": {"made": ["chr3"]}, "test": {"made": ["chr4"]}}
    given = {"genomes": {"made": fasta}, "window": WINDOW, "split": split}
    return build_sequences(SequenceRecipe.model_validate(given), folder / "store")


def told(vectors_ND: npt.NDArray[np.float32], own_N: Bools) -> float:
    """AUROC of a linear probe of `LABELED` windows on all others."""
    vectors_ND = StandardScaler().fit_transform(vectors_ND)
    probe = LogisticRegression(max_iter=2000).fit(vectors_ND[:LABELED], own_N[:LABELED])
    score_N = probe.decision_function(vectors_ND[LABELED:]).astype(np.float32)
    return auroc(score_N, own_N[LABELED:])


def test_a_short_run_finds_a_planted_motif(store: SequenceStore, tmp_path: Path) -> None:
    """One copy of it in 160 bp of a new window, with 100 labels: AUROC above 0.9.

    The same encoder with random weights is at least 0.1 below, GC content at chance.
    """
    recipe = TrainRecipe.model_validate({
        "store": store.path,
        "model": "findna-plus-tiny",
        "objective": {
            "name": "distillation", "prototypes": 64, "held_out": 256,
            "views": {"length": 128, "local_count": 0},
        },
        "training": {
            "steps": STEPS, "batch_size": 32, "validate_every": STEPS // 3, "learning_rate": 4e-3,
            "weight_decay": 0.04, "warmup": 0.05, "clip": 1.0, "ema_decay": 0.99,
        },
    })  # fmt: skip
    run = fit(recipe, tmp_path / "run")
    share = pl.read_parquet(run.metrics_path).filter(metric="rankme_share")["value"]
    assert len(share) == 4
    assert share.min() > 0.2  # type: ignore[operator]
    model = load_model(run.model_folder)
    assert isinstance(model, SequenceModel)
    torch.manual_seed(1)
    twin = build_encoder(model.config.encoder).eval()
    letters_NL, own_N = windows(1500, 1, np.random.default_rng(1))
    x_N4L = torch.from_numpy((letters_NL[:, None] == BASES[:, None]).astype(np.float32))
    with torch.no_grad():
        trained, random = (
            told(encoder(x_N4L).mean().numpy(), own_N) for encoder in (model.encoder, twin)
        )
    gc = told(x_N4L[:, 1:3].sum(1).mean(1, keepdim=True).numpy(), own_N)
    assert trained > 0.9
    assert trained > random + 0.1
    assert trained > gc + 0.3


def test_a_run_that_must_collapse_ends_with_exit_code_3(
    store: SequenceStore, tmp_path: Path
) -> None:
    """The pooled term alone, a teacher that is the student, and nothing that keeps them apart."""
    objective = {
        "name": "distillation", "masked": 0, "latent": 0, "koleo": 0, "pooled": 1, "ramp": 0,
        "prototypes": 16, "target": "center", "temperature": 0.1, "teacher_temperature": [0.1, 0.1],
        "half_life": [0, 0], "held_out": 64, "views": {"length": 64, "local_count": 0},
    }  # fmt: skip
    recipe = {
        "store": str(store.path),
        "model": {"preset": "findna-plus-tiny", "dim": 16, "depth": 1, "stem_dim": 16},
        "objective": objective,
        "training": {"steps": 60, "batch_size": 16, "learning_rate": 0.01, "validate_every": 15},
    }
    (tmp_path / "recipe.yaml").write_text(json.dumps(recipe))
    command = [sys.executable, "-m", "cislens.cli.app", "train", "recipe.yaml", "--out", "run"]
    for _ in range(2):  # the second time it is refused
        ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
        assert ended.returncode == 3
        assert "the model has collapsed" in ended.stderr
    report = json.loads((tmp_path / "run" / "collapse_report.json").read_text())
    assert "teacher/information" in {rule["metric"] for rule in report["rules"]}
    assert not (tmp_path / "run" / "model").exists()
