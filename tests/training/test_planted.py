"""Two made-up species whose signal stands on a planted motif, a different one in each."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from lightning.pytorch import Callback

from cislens.genome.codes import decode, encode
from cislens.genome.reference import open_genome
from cislens.recipes.schema import Training, TrainRecipe
from cislens.signal.bigwig import write_bigwig
from cislens.signal.build import build_profile_store
from cislens.signal.plan import SplitSpec
from cislens.signal.store import ProfileStore
from cislens.signal.tracks import Track, track_table
from cislens.training import fit as fitting
from cislens.training.fit import Run, fit

MOTIFS = {"north": "GATTACAGATTACA", "south": "CCGCGGTATACCGC"}
SIZES = {"chr1": 60_000, "chr2": 12_000, "chr3": 4_000}


def write_species(folder: Path, name: str) -> tuple[Path, Track]:
    """A genome with its motif in about one bin of ten, and ten counts on each of them."""
    rng = np.random.default_rng(len(name) + ord(name[0]))
    motif, fasta, at = encode(MOTIFS[name]), "", {}
    for chrom, size in SIZES.items():
        codes = rng.integers(0, 4, size).astype(np.uint8)
        starts = np.flatnonzero(rng.random(size // 128) < 0.1) * 128 + 50
        codes[starts[:, None] + np.arange(motif.size)] = motif
        fasta += f">{chrom}\n{decode(codes)}\n"
        at[chrom] = starts + 6
    path = folder / f"{name}.fa"
    path.write_text(fasta)
    chroms = np.concatenate([np.full(places.size, chrom) for chrom, places in at.items()])
    places = np.concatenate(list(at.values()))
    signal = folder / f"{name}.bw"
    write_bigwig(signal, SIZES, chroms, places, places + 1, np.full(places.size, 10.0))
    return path, Track(f"{name}-peaks", str(signal), name, assay="ATAC", uncovered="zero")


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> ProfileStore:
    folder = tmp_path_factory.mktemp("planted")
    made = {name: write_species(folder, name) for name in MOTIFS}
    parts = [{name: [chrom] for name in MOTIFS} for chrom in ("chr2", "chr3")]
    return build_profile_store(
        folder / "store",
        {name: open_genome(path, name) for name, (path, _) in made.items()},
        track_table(track for _, track in made.values()),
        length=512,
        bin_size=128,
        split=SplitSpec(valid=parts[0], test=parts[1]),
    )


def constant_rate_nll(store: ProfileStore) -> float:
    """Poisson loss on validation of each species' mean rate in training."""
    values = []
    for name in store.species:
        split = store.windows(name)["split"].to_numpy()
        train, valid = (store.targets(name, np.flatnonzero(split == s)) for s in ("train", "valid"))
        rate = train.astype(np.float64).mean()
        values.append(float((rate - valid.astype(np.float64) * np.log(rate)).mean()))
    return float(np.mean(values))


class Interrupt(Callback):
    def on_train_batch_end(self, trainer, *rest) -> None:  # type: ignore[no-untyped-def]
        if trainer.global_step == 110:
            raise SystemError("pulled the plug")


@pytest.mark.slow
def test_200_steps_find_the_motifs_and_an_interrupted_run_ends_alike(
    planted: ProfileStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shape = {"dim": 24, "stem_dim": 16, "depth": 1, "heads": 2, "dropout": 0.0}
    training = Training(
        steps=200, batch_size=16, learning_rate=4e-3, validate_every=100, ema_decay=0.95
    )
    recipe = TrainRecipe(
        store=planted.path, model={"preset": "space-plus-tiny", **shape}, training=training
    )
    whole = fit(recipe, tmp_path / "whole")
    rows = pl.read_parquet(whole.metrics_path)
    nll = rows.filter(split="valid", metric="poisson_nll").sort("step")["value"][-1]
    baseline = constant_rate_nll(planted)
    assert baseline > 0
    assert nll < 0.8 * baseline
    of_experts = rows.filter(pl.col("metric").str.starts_with("experts/"))
    assert set(of_experts["metric"].str.split("/").list.get(1)) == {"L1", "decoder"}
    assert of_experts["value"].is_finite().all()

    make = fitting._trainer
    with monkeypatch.context() as patch, pytest.raises(SystemError, match="pulled the plug"):
        patch.setattr(fitting, "_trainer", lambda r, f, c: make(r, f, [*c, Interrupt()]))
        fit(recipe, tmp_path / "parts")
    assert Run.open(tmp_path / "parts") is None
    parts = fit(recipe, tmp_path / "parts")
    name = "model.safetensors"
    assert (parts.model_folder / name).read_bytes() == (whole.model_folder / name).read_bytes()
    assert pl.read_parquet(parts.metrics_path).equals(rows)
