import gzip
import logging
import os
from collections.abc import Iterator
from pathlib import Path

# As the command line does, before torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import polars as pl
import pytest
from hypothesis import settings
from tests.browser import chromium as chromium

from cislens.cli.data import plan_store
from cislens.example import core_data as find_core_data
from cislens.example import example_path
from cislens.motifs.build import build_regions
from cislens.motifs.store import RegionStore
from cislens.recipes.profiles import DataRecipe
from cislens.recipes.reading import read_recipe
from cislens.recipes.regions import CellSection, RegionRecipe, RegionSplit
from cislens.recipes.sequence import SequenceRecipe
from cislens.sequence.build import build_sequences
from cislens.sequence.store import SequenceStore
from cislens.signal.build import build_planned
from cislens.signal.store import ProfileStore

# How long an example takes says nothing of what a test states; a busy machine would fail it.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def core_data() -> Path:
    """Whole genomes and tracks for development; tests that need them are skipped elsewhere."""
    folder = find_core_data()
    if folder is None:
        pytest.skip("the development data is not here: set CISLENS_DATA to its folder")
    return folder


@pytest.fixture(scope="session")
def object_server() -> Iterator[str]:
    """A server of this process that speaks S3; its address."""
    moto = pytest.importorskip("moto.server", reason="moto of the `test` extra is missing")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = moto.ThreadedMotoServer(port=0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


@pytest.fixture
def bucket(object_server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an empty folder in a bucket that the environment can read and write."""
    fsspec = pytest.importorskip("fsspec")
    for name, value in (
        ("ACCESS_KEY_ID", "me"), ("SECRET_ACCESS_KEY", "secret"), ("ENDPOINT_URL", object_server),
        ("DEFAULT_REGION", "us-east-1"), ("EC2_METADATA_DISABLED", "true"),
    ):  # fmt: skip
        monkeypatch.setenv(f"AWS_{name}", value)
    files = fsspec.filesystem("s3", skip_instance_cache=True)
    type(files).clear_instance_cache()  # those of other tests know other credentials
    if not files.exists("bucket"):
        files.mkdir("bucket")
    return f"s3://bucket/{tmp_path.name}"


@pytest.fixture(scope="session")
def small_store(tmp_path_factory: pytest.TempPathFactory) -> ProfileStore:
    """Packaged yeast and fly in windows of 1 kb: a real store of two species, built in seconds."""
    recipe = tmp_path_factory.mktemp("recipe") / "data.yaml"
    recipe.write_text(
        "genomes:\n"
        "  yeast: example:yeast_mini/sacCer3_II_IV_XVI.fa.gz\n"
        "  fly: example:fly_mini/dm6_chr2L_4_7Mb.fa.gz\n"
        f"tracks: {tracks_of(recipe.parent, 'yeast', 'fly')}\n"
        "length: 1024\n"
        "stride: 4096\n"
        "split: {block_bp: 65536}\n"
    )
    out = tmp_path_factory.mktemp("store") / "store"
    return build_planned(out, plan_store(read_recipe(recipe, DataRecipe)))


@pytest.fixture(scope="session")
def region_store(tmp_path_factory: pytest.TempPathFactory) -> RegionStore:
    """Open regions of packaged yeast, 128 bp and 12 motifs; two cell types to train on, one not.

    All cell types are the one that was measured: two of them lack some of its peaks.
    """
    folder = tmp_path_factory.mktemp("regions")
    with gzip.open(example_path("yeast_mini/atac_peaks_macs3.narrowPeak.gz"), "rt") as file:
        peaks = list(file)
    for cell, left_out in {"whole": -1, "partial": 0, "held-out": 1}.items():
        kept = [line for at, line in enumerate(peaks) if at % 4 != left_out]
        (folder / f"{cell}.narrowPeak").write_text("".join(kept))
    with gzip.open(example_path("motifs/JASPAR2026_CORE_fungi.meme.gz"), "rt") as file:
        (folder / "motifs.meme").write_text("MOTIF".join(file.read().split("MOTIF")[:13]))
    recipe = RegionRecipe(
        genome=example_path("yeast_mini/sacCer3_II_IV_XVI.fa.gz"),
        cells={path.stem: CellSection(peaks=path) for path in sorted(folder.glob("*.narrowPeak"))},
        width=128,
        margin=16,
        motifs=str(folder / "motifs.meme"),
        archetypes="none",
        split=RegionSplit(valid=["chrII"], test=["chrXVI"], test_cells=["held-out"]),
    )
    return build_regions(recipe, folder / "store")


def tracks_of(folder: Path, *species: str) -> Path:
    """A copy of the packaged track table with the tracks of some species only."""
    table = pl.read_csv(example_path("tracks.tsv"), separator="\t")
    root = str(example_path("tracks.tsv").parent)
    table = table.filter(pl.col("species").is_in(species)).with_columns(
        pl.concat_str(pl.lit(root + "/"), "file").alias("file")
    )
    table.write_csv(folder / "tracks.tsv", separator="\t")
    return folder / "tracks.tsv"


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model of one yeast track, as a run would save it."""
    from cislens.models.presets import preset_config
    from cislens.models.profile import build_model
    from cislens.models.saving import save_model
    from cislens.signal.datacard import FILE_NAME, DataCard
    from cislens.signal.tracks import Track, track_table

    model = build_model(
        preset_config("space-plus-tiny", {"yeast": ["a"]}, crop=0, dim=24, stem_dim=8)
    )
    card = DataCard(1024, track_table([Track("a", "a.bw", "yeast")]))
    folder = tmp_path_factory.mktemp("model") / "model"
    save_model(model, folder, "# untrained\n", {FILE_NAME: card.to_json()})
    return folder


@pytest.fixture(scope="session")
def sequence_store(tmp_path_factory: pytest.TempPathFactory) -> SequenceStore:
    """Packaged yeast and fly in windows of 512 bp; the open regions of yeast are the probe."""
    recipe = SequenceRecipe(
        genomes={
            "yeast": example_path("yeast_mini/sacCer3_II_IV_XVI.fa.gz"),
            "fly": example_path("fly_mini/dm6_chr2L_4_7Mb.fa.gz"),
        },
        window=512,
        probe={"yeast": example_path("yeast_mini/atac_peaks_macs3.narrowPeak.gz")},
    )
    return build_sequences(recipe, tmp_path_factory.mktemp("sequences") / "store")
