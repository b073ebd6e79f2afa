"""`cislens predict`: what it says, what it refuses, and that a kill costs nothing but time."""

import json
import logging
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from cislens.cli.app import main
from cislens.models.presets import preset_config
from cislens.models.profile import build_model
from cislens.models.saving import save_model
from cislens.signal.bigwig import read_windows
from cislens.signal.datacard import FILE_NAME, DataCard
from cislens.signal.tracks import Track, track_table

SIZE = 40_000
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """`run(model, ...)` -> exit code, stdout, stderr of `cislens predict`."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["cislens", "predict", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        code = stopped.value.code
        captured = capfd.readouterr()
        assert "Traceback" not in captured.err
        return (code if isinstance(code, int) else 0), captured.out, captured.err

    return call


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("genome") / "genome.fa"
    rng = np.random.default_rng(0)
    path.write_text(f">chr1\n{''.join(rng.choice(list('ACGT'), SIZE))}\n>chr2\nACGTACGTAC\n")
    return path


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two untrained models of bins of 128 bp and a third of another species; crop 1."""
    folder = tmp_path_factory.mktemp("models")
    for seed, species in enumerate(("yeast", "yeast", "fly")):
        torch.manual_seed(seed)
        rows = [
            Track("a", "a.bw", species, "ATAC", biosample="K562"),
            Track("b", "b.bw", species, "CHIP", biosample="liver"),
        ]
        net = build_model(
            preset_config("space-plus-tiny", {species: ["a", "b"]}, crop=1, dim=24, stem_dim=8)
        )
        card = DataCard(1024, track_table(rows)).to_json()
        save_model(net, folder / str(seed), "# untrained\n", {FILE_NAME: card})
    return [folder / str(seed) for seed in range(3)]


def bed(folder: Path, *lines: str) -> Path:
    (folder / "regions.bed").write_text("".join(f"{line}\n" for line in lines))
    return folder / "regions.bed"


def refused(result: tuple[int, str, str], *parts: str) -> None:
    code, out, err = result
    messages = err[err.index("error: ") :]
    assert code == 2, err
    assert out == ""
    for part in parts:
        assert part in messages, err


def test_what_is_widened_and_padded_is_said(
    run: Run, models: list[Path], genome: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="cislens")
    where = bed(tmp_path, "# some", "chr1\t0\t500", "chr1\t700\t710", "chr1\t9000\t9100")
    code, out, err = run(
        models[0], "--genome", genome, "--regions", where, "--out", tmp_path / "out", "--json"
    )
    assert code == 0, err
    assert (
        "2 of 3 regions are shorter than a bin of 128 bp and are widened to whole bins"
        in caplog.text
    )
    assert "regions.bed line 3" in caplog.text
    assert "1 of 2 windows reach over a chromosome's end and are padded with N" in caplog.text
    found = json.loads(out)
    assert found["bins"] == 4 + 1 + 2
    assert found["windows_padded_with_n"] == 1
    assert [Path(name).name for name in found["files"]] == ["a.bw", "b.bw"]
    covered = ~np.isnan(read_windows(found["files"][0], ["chr1"], [0], SIZE)[0])
    expected = [*range(512), *range(640, 768), *range(8960, 9216)]
    np.testing.assert_array_equal(np.flatnonzero(covered), expected)


def test_an_ensemble_of_chosen_tracks_in_every_format(
    run: Run, models: list[Path], genome: Path, tmp_path: Path
) -> None:
    where, out = bed(tmp_path, "chr1\t1000\t3000"), tmp_path / "out"
    code, _, err = run(
        models[0], models[1], "--genome", genome, "--species", "yeast", "--regions", where,
        "--tracks", 'assay == "ATAC" and biosample ~ "K5"', "--format", "bigwig,zarr,parquet",
        "--average", "rc,shift", "--trim", 2, "--batch-size", 4, "--out", out,
    )  # fmt: skip
    assert code == 0, err
    assert sorted(path.name for path in out.iterdir()) == [
        "a.bw", "a.spread.bw", "manifest.json", "predictions.parquet", "predictions.zarr",
        "tracks.tsv",
    ]  # fmt: skip
    spread = read_windows(out / "a.spread.bw", ["chr1"], [1000], 2000)[0]
    assert (spread > 0).all()
    manifest = json.loads((out / "manifest.json").read_text())
    # The same with and without the option that names the only species.
    assert manifest["genome"] == genome.name.split(".")[0]
    settings = manifest["settings"]
    assert (settings["average"], settings["trim"], settings["batch_size"]) == ("rc,shift", 2, 4)


def test_a_dry_run_checks_and_writes_nothing(
    run: Run, models: list[Path], genome: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    code, text, err = run(models[0], "--genome", genome, "--out", out, "--dry-run", "--json")
    assert code == 0, err
    plan = json.loads(text)
    # 40,000 bp are 313 bins of 128 bp, six to a window; chr2 is one bin.
    assert (plan["bins"], plan["windows"]) == (314, 53 + 1)
    assert plan["bases"] == SIZE + 10
    assert (plan["tracks"], plan["files"], plan["views"]) == (2, 2, 2)
    assert plan["bytes"] == 314 * 2 * 4
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (["--tracks", 'assay == "ATAK"'], ["no track of 2 matches", "nearest 'ATAC'"]),
        (["--tracks", 'asay == "ATAC"'], ["character 1", "Did you mean 'assay'?"]),
        (["--format", "bigwig,bedgraph"], ["'bedgraph' is none of bigwig, parquet, zarr"]),
        (["--format", ","], ["no format was given"]),
        (["--average", "rv"], ["'rv'", "Did you mean 'rc'?"]),
        (["--precision", "fp16"], ["neither fp32 nor bf16"]),
        (["--trim", "0"], ["--trim 0 is below the 1 bins"]),
        (["--trim", "4"], ["8 bins, none is left"]),
        (["--species", "yeats"], ["'yeats'", "'yeast'"]),
        (["--device", "gpu"], ["there is no device 'gpu'"]),
    ],
)
@pytest.mark.parametrize("dry", [True, False])
def test_wrong_options_are_refused_and_nothing_is_written(
    run: Run, models: list[Path], genome: Path, tmp_path: Path, options: list[str],
    parts: list[str], dry: bool,
) -> None:  # fmt: skip
    out = tmp_path / "out"
    more = ["--dry-run"] if dry else []
    refused(run(models[0], "--genome", genome, "--out", out, *options, *more), *parts)
    assert not out.exists()


@pytest.mark.parametrize(
    ("lines", "parts"),
    [
        (["chr1\t10\t20", "# x", "chr1\t39000\t40001"], ["regions.bed line 3", "<= 40000"]),
        (["chr1\t10\t20", "chr9\t39\t40"], ["regions.bed line 2", "'chr9'"]),
        (["# none"], ["regions.bed holds no interval"]),
        (["chr1\t10\t10"], ["regions.bed line 1"]),
    ],
)
def test_wrong_regions_are_named_by_line(
    run: Run, models: list[Path], genome: Path, tmp_path: Path, lines: list[str], parts: list[str]
) -> None:
    out, where = tmp_path / "out", bed(tmp_path, *lines)
    refused(run(models[0], "--genome", genome, "--out", out, "--regions", where), *parts)
    assert not out.exists()


def test_models_that_do_not_fit_are_refused(
    run: Run, models: list[Path], genome: Path, tmp_path: Path
) -> None:
    result = run(models[0], models[2], "--genome", genome, "--out", tmp_path / "out")
    refused(result, "predicts yeast and", "does not: it has fly")


def test_a_gpu_that_is_not_there_is_refused(
    run: Run, models: list[Path], genome: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.device_count", lambda: 0)
    result = run(models[0], "--genome", genome, "--out", tmp_path / "out", "--device", "cuda")
    refused(result, "this machine has 0 GPUs")
    assert not (tmp_path / "out").exists()


def test_another_prediction_is_not_overwritten(
    run: Run, models: list[Path], genome: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="cislens")
    out, where = tmp_path / "out", bed(tmp_path, "chr1\t0\t500")
    same = (models[0], "--genome", genome, "--out", out, "--regions", where)
    assert run(*same)[0] == 0
    before = (out / "a.bw").read_bytes()
    refused(run(*same, "--average", "none"), "prediction with other average")
    assert run(*same)[0] == 0
    assert "already predicted" in caplog.text
    assert (out / "a.bw").read_bytes() == before


@pytest.mark.slow
def test_a_killed_prediction_resumes_to_the_same_bytes(
    run: Run, models: list[Path], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="cislens")
    rng = np.random.default_rng(0)
    big = tmp_path / "big.fa"
    big.write_text(f">chr1\n{''.join(rng.choice(list('ACGT'), 400_000))}\n")
    same = ["predict", str(models[0]), "--genome", str(big), "--format", "bigwig,parquet,zarr"]
    killed = subprocess.Popen(
        [sys.executable, "-m", "cislens.cli.app", *same, "--out", str(tmp_path / "killed")],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    end = time.monotonic() + 120
    while not (tmp_path / "killed" / ".parts" / "00000000.npy").exists():
        assert killed.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < end
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    for folder in ("killed", "whole"):
        caplog.clear()
        code, _, err = run(*same[1:], "--out", tmp_path / folder)
        assert code == 0, err
        assert ("parts are there from an earlier run" in caplog.text) == (folder == "killed")
    files = [
        {
            str(path.relative_to(tmp_path / folder)): path.read_bytes()
            for path in (tmp_path / folder).rglob("*")
            if path.is_file()
        }
        for folder in ("killed", "whole")
    ]
    assert files[0] == files[1]
