"""Data, training, bench, prediction and report on one packaged genome, through the verbs."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from typer.testing import CliRunner

from cislens.cli.app import app
from cislens.errors import CislensError
from cislens.example import example_path

DATA = """\
genomes: {{yeast: example:yeast_mini/sacCer3_II_IV_XVI.fa.gz}}
tracks: {tracks}
length: 2048
crop: 2
split: {{block_bp: 32768, fractions: {{train: 0.6, valid: 0.15, test: 0.25}}}}
"""
TRAIN = """\
store: store
model: {preset: space-plus-tiny, dim: 24, stem_dim: 8, depth: 1, heads: 2}
training: {steps: 6, batch_size: 8, validate_every: 3, ema_decay: 0.5}
"""
BENCH = """\
runs: {small: run}
store: store
tasks:
  windows: {kind: windows, species: yeast, width: 256, limit: 400}
  promoters:
    kind: promoters
    species: yeast
    genome: example:yeast_mini/sacCer3_II_IV_XVI.fa.gz
    genes: example:yeast_mini/genes.bed.gz
    width: 256
    limit: 300
settings: {seeds: 2, cnn_steps: 8, kmer: 3, trials: 1, labels: [40], layers: true}
loci:
  yeast:
    genome: example:yeast_mini/sacCer3_II_IV_XVI.fa.gz
    count: 1
    annotations: example:yeast_mini/genes.bed.gz
sources: [{data: yeast, source: packaged, licence: MIT}]
"""

Call = Callable[..., dict[str, object]]


def call(*arguments: object) -> dict[str, object]:
    """A verb with --json: its one object."""
    result = CliRunner().invoke(app, [*map(str, arguments), "--json"], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    found: dict[str, object] = json.loads(result.stdout)
    return found


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project that went through every verb."""
    folder = tmp_path_factory.mktemp("project")
    table = pl.read_csv(example_path("tracks.tsv"), separator="\t").filter(species="yeast")
    root = example_path("tracks.tsv").parent
    table = table.with_columns(file=pl.lit(f"{root}/") + pl.col("file"))
    table.write_csv(folder / "tracks.tsv", separator="\t")
    (folder / "data.yaml").write_text(DATA.format(tracks="tracks.tsv"))
    (folder / "train.yaml").write_text(TRAIN)
    (folder / "bench.yaml").write_text(BENCH)
    call("data", "profile", folder / "data.yaml", "--out", folder / "store")
    run = call("train", folder / "train.yaml", "--out", folder / "run")
    assert Path(str(run["model_folder"])) == folder / "run" / "model"
    call("bench", folder / "bench.yaml", "--out", folder / "bench")
    return folder


def test_dry_runs_say_what_would_be_done_and_write_nothing(project: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    data = call("data", "profile", project / "data.yaml", "--out", out, "--dry-run")
    assert data["bins"] == 12
    train = call("train", project / "train.yaml", "--out", out, "--dry-run")
    assert train["bases"] == 6 * 8 * 2048
    assert re.fullmatch("[ACGTN]{60}", str(train["first_window"]))
    bench = call("bench", project / "bench.yaml", "--out", out, "--dry-run")
    assert bench["fits"] == 2 * 2 * 2 * 7  # tasks x seeds x sizes x arms
    assert not out.exists()


def test_every_task_has_a_verdict_with_its_interval(project: Path) -> None:
    verdicts = pl.read_parquet(project / "bench" / "verdicts.parquet")
    assert set(verdicts["task"]) == {"windows", "promoters"}
    assert set(verdicts["comparison"]) == {"onehot", "composition", "random"}
    assert (verdicts["diff_low"] <= verdicts["difference"]).all()
    assert (verdicts["difference"] <= verdicts["diff_high"]).all()


def test_the_report_is_one_file_with_every_part(project: Path) -> None:
    page = (project / "bench" / "report.html").read_text()
    for part in ("promoters", "windows", "Expert use", "chr", "MIT", "Training"):
        assert part in page
    assert not re.search(r"(src|href)=\"https?:", page)


def test_a_report_can_be_written_again_with_the_same_bytes(project: Path, tmp_path: Path) -> None:
    call("report", project / "bench", "--out", tmp_path / "again.html")
    again = (tmp_path / "again.html").read_bytes()
    assert again == (project / "bench" / "report.html").read_bytes()


def test_a_finished_bench_is_not_computed_again(project: Path) -> None:
    scores = sorted((project / "bench").rglob("scores.parquet"))
    before = [path.stat().st_mtime_ns for path in scores if "seed" in str(path)]
    call("bench", project / "bench.yaml", "--out", project / "bench")
    after = [path.stat().st_mtime_ns for path in scores if "seed" in str(path)]
    assert len(before) == 56
    assert after == before


def test_predicted_tracks_are_bigwigs_of_the_asked_regions(project: Path, tmp_path: Path) -> None:
    pybigwig = pytest.importorskip("pyBigWig", reason="pyBigWig of the `peers` extra is missing")
    bed = tmp_path / "regions.bed"
    bed.write_text("II\t1000\t2000\n")  # matched to chrII, with a report
    result = call(
        "predict", project / "run" / "model",
        "--genome", example_path("yeast_mini/sacCer3_II_IV_XVI.fa.gz"),
        "--species", "yeast", "--regions", bed, "--out", tmp_path / "tracks",
    )  # fmt: skip
    files = result["files"]
    assert isinstance(files, list)
    assert len(files) == 3
    with pybigwig.open(files[0]) as track:
        assert track.chroms()["chrII"] == 813184
        intervals = track.intervals("chrII")
        assert intervals[0][0] == 896  # whole bins of 128 bp
        assert intervals[-1][1] == 2048


def test_model_show_names_the_tracks(project: Path) -> None:
    shown = call("model", "show", project / "run" / "model")
    assert shown["heads"][0]["species"] == "yeast"  # type: ignore[index]
    assert "space-plus-tiny" in call("model", "ls")


def test_doctor_finds_the_packaged_data() -> None:
    assert Path(str(call("doctor")["packaged_data"])).is_dir()


def refused_bench(folder: Path, out: Path, text: str) -> str:
    (folder / "other.yaml").write_text(text)
    with pytest.raises(CislensError) as caught:
        CliRunner().invoke(
            app,
            ["bench", str(folder / "other.yaml"), "--out", str(out), "--dry-run"],
            catch_exceptions=False,
        )
    return str(caught.value)


def test_a_trained_encoder_conforms(project: Path) -> None:
    assert call("model", "check", project / "run" / "model")["findings"] == []


def test_a_task_of_a_species_that_the_store_lacks_is_refused(project: Path, tmp_path: Path) -> None:
    head, tasks = BENCH.split("  promoters:")
    text = f"{head}  promoters:{tasks.replace('species: yeast', 'species: sacCer3', 1)}"
    message = refused_bench(project, tmp_path / "out", text)
    assert "no species 'sacCer3'" in message
    assert "split: anew" in message


def test_a_run_of_another_store_is_refused(project: Path, tmp_path: Path) -> None:
    (project / "data2.yaml").write_text((project / "data.yaml").read_text() + "seed: 5\n")
    call("data", "profile", project / "data2.yaml", "--out", project / "store2")
    message = refused_bench(
        project, tmp_path / "out", BENCH.replace("store: store", "store: store2")
    )
    assert "was trained on another store" in message


def test_another_seed_draws_other_examples(project: Path, tmp_path: Path) -> None:
    recipe = project / "bench.yaml"
    first, other = (
        call("bench", recipe, "--out", tmp_path, "--dry-run", "--seed", seed)["tasks"]
        for seed in (1, 2)
    )
    assert first != other


def test_a_damaged_table_is_named(project: Path, tmp_path: Path) -> None:
    copy = tmp_path / "bench"
    shutil.copytree(project / "bench", copy)
    (copy / "verdicts.parquet").write_bytes(b"PAR1 and nothing more")
    with pytest.raises(CislensError, match=r"verdicts\.parquet is no readable parquet"):
        call("report", copy)
