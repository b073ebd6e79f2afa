"""A sequence encoder of GeneBERT under the heads of a profile model."""

from pathlib import Path

import polars as pl
import pytest

from cislens.cli.data import plan_store
from cislens.errors import CislensError
from cislens.example import example_path
from cislens.models.saving import load_profile_model
from cislens.recipes.profiles import DataRecipe
from cislens.recipes.reading import read_recipe
from cislens.recipes.schema import Training, TrainRecipe
from cislens.signal.build import build_planned
from cislens.signal.store import ProfileStore
from cislens.training.courses import course_of
from cislens.training.fit import fit

SMALL = {"preset": "genebert-plus-tiny", "dim": 16, "depth": 1, "heads": 2}
TRAINING = Training(steps=4, batch_size=8, validate_every=2, ema_decay=0.5)


@pytest.fixture(scope="module")
def base_store(tmp_path_factory: pytest.TempPathFactory) -> ProfileStore:
    """Packaged yeast in windows of 256 bp, with a value for every base."""

    folder = tmp_path_factory.mktemp("bases")
    table = pl.read_csv(example_path("tracks.tsv"), separator="\t").filter(species="yeast").head(1)
    root = example_path("tracks.tsv").parent
    table.with_columns(file=pl.lit(f"{root}/") + pl.col("file")).write_csv(
        folder / "tracks.tsv", separator="\t"
    )
    (folder / "data.yaml").write_text(
        "genomes: {yeast: example:yeast_mini/sacCer3_II_IV_XVI.fa.gz}\n"
        "tracks: tracks.tsv\nlength: 256\nbin_size: 1\nstride: 8192\n"
        "split: {block_bp: 65536}\n"
    )
    plan = plan_store(read_recipe(folder / "data.yaml", DataRecipe))
    return build_planned(folder / "store", plan)


def test_it_trains_on_profiles_of_single_bases(base_store: ProfileStore, tmp_path: Path) -> None:
    recipe = TrainRecipe(store=base_store.path, model=SMALL, training=TRAINING)
    run = fit(recipe, tmp_path / "run")
    losses = pl.read_parquet(run.metrics_path).filter(metric="poisson_nll")["value"]
    assert losses.is_finite().all()
    assert losses[-1] < losses[0]
    model = load_profile_model(run.model_folder)
    assert model.encoder.bin_size == 1
    assert model.config.encoder.kind == "genebert-plus"


def test_bins_of_128_bp_are_refused_with_both_sizes(small_store: ProfileStore) -> None:
    recipe = TrainRecipe(store=small_store.path, model=SMALL, training=TRAINING)
    with pytest.raises(CislensError, match=r"has bins of 1 bp and .* bins of 128 bp; build"):
        course_of(recipe)
