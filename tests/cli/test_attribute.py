"""`cislens attribute`, and what it says of input that is wrong."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cislens.cli.app import main
from cislens.example import example_path
from cislens.motifs.library import read_library

Run = Callable[..., tuple[int, str, str]]
GENOME = example_path("yeast_mini/sacCer3_II_IV_XVI.fa.gz")
TARGET = ("--target", "mean()[-200:200]")


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], model_folder: Path
) -> Run:
    """`run(BED, option, ...)` of the untrained yeast model -> exit code, stdout, stderr."""

    def call(regions: Path, *options: object, model: Path = model_folder) -> tuple[int, str, str]:
        arguments = ["attribute", model, regions, "--genome", GENOME, "--device", "cpu", *options]
        monkeypatch.setattr("sys.argv", ["cislens", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        code = stopped.value.code
        captured = capfd.readouterr()
        return (code if isinstance(code, int) else 0), captured.out, captured.err

    return call


@pytest.fixture
def regions(tmp_path: Path) -> Path:
    path = tmp_path / "regions.bed"
    path.write_text("chrII\t100\t300\ta\nchrII\t8000\t8100\tb\n")
    return path


@pytest.fixture(scope="module")
def language_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained masked language model."""
    from cislens.models.saving import save_model
    from cislens.models.sequence import SequenceModel, SequenceModelConfig

    encoder = {"kind": "findna-plus", "dim": 16, "depth": 1, "stem_dim": 8}
    folder = tmp_path_factory.mktemp("language") / "model"
    config = SequenceModelConfig.model_validate({"encoder": encoder})
    save_model(SequenceModel(config), folder, "# untrained\n")
    return folder


def refused(result: tuple[int, str, str], *parts: str) -> None:
    code, out, err = result
    messages = [line for line in err.splitlines() if line.startswith("error: ")]
    assert code == 2, err
    assert len(messages) == 1, err
    assert "Traceback" not in err
    assert out == ""
    for part in parts:
        assert part in messages[0]


def test_maps_are_written_and_the_padding_is_said(
    run: Run, regions: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    code, out, err = run(regions, *TARGET, "--out", tmp_path / "out", "--logos", 1, "--json")
    assert code == 0, err
    assert "1 of 2 regions reach over a chromosome's end; they are padded with N" in caplog.text
    answer = json.loads(out)
    assert (answer["regions"], answer["width"]) == (2, 1024)
    assert len([name for name in answer["files"] if name.endswith(".svg")]) == 1
    assert all((tmp_path / "out" / name).exists() for name in answer["files"])
    with np.load(tmp_path / "out" / "shap.npz") as shap:
        assert shap["arr_0"].shape == (2, 4, 1024)
        assert np.abs(shap["arr_0"]).max() > 0
    other = (*TARGET, "--average", "none", "--out", tmp_path / "out", "--dry-run")
    refused(run(regions, *other), "holds attributions with average 'rc'")


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(
    run: Run, regions: Path, tmp_path: Path
) -> None:
    before = sorted(tmp_path.rglob("*"))
    code, out, err = run(regions, *TARGET, "--out", tmp_path / "out", "--dry-run", "--json")
    assert code == 0, err
    plan = json.loads(out)
    assert plan["species"] == "yeast"
    assert (plan["regions"], plan["width"], plan["padded"]) == (2, 1024, 1)
    assert plan["first"] == "chrII:-312-712"
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("method", ["integrated_gradients", "ism"])
def test_other_methods_run(run: Run, regions: Path, tmp_path: Path, method: str) -> None:
    options = ("--method", method, "--width", 384, "--steps", 2, "--backgrounds", 1)
    regions.write_text("chrII\t8000\t8100\n")
    code, _, err = run(regions, *TARGET, *options, "--out", tmp_path / "out")
    assert code == 0, err
    with np.load(tmp_path / "out" / "shap.npz") as shap:
        assert shap["arr_0"].shape == (1, 4, 384)
    score = pl.read_csv(tmp_path / "out" / "regions.tsv", separator="\t")
    assert (score["reference"].null_count() == 0) == (method == "integrated_gradients")


def test_the_entropy_map_of_a_language_model_takes_a_width_and_no_target(
    run: Run, regions: Path, tmp_path: Path, language_folder: Path
) -> None:
    out = tmp_path / "out"
    entropy = ("--method", "entropy", "--out", out)
    refused(run(regions, *entropy, model=language_folder), "give --width")
    refused(
        run(regions, *entropy, *TARGET, "--width", 64, model=language_folder), "leave --target out"
    )
    refused(run(regions, *entropy), "no head that was trained to tell hidden bases")
    assert not out.exists()
    code, _, err = run(regions, *entropy, "--width", 64, model=language_folder)
    assert code == 0, err
    with np.load(out / "shap.npz") as shap:
        assert shap["arr_0"].shape == (2, 4, 64)
        assert shap["arr_0"].min() == 0


def test_inserted_motifs_are_scored_as_a_table(run: Run, regions: Path, tmp_path: Path) -> None:
    library = example_path("motifs/JASPAR2026_CORE_fungi.meme.gz")
    motif = read_library(str(library)).motifs[0]
    options = ("--insert", "TGACTCA", "--insert", motif.id, "--motifs", library)
    options = (*options, "--backgrounds", 6)
    regions.write_text("chrII\t8000\t8100\nchrII\t9000\t9100\n")
    code, out, err = run(regions, *TARGET, *options, "--out", tmp_path / "out")
    assert code == 0, err
    table = pl.read_csv(tmp_path / "out" / "importance.tsv", separator="\t")
    assert out.splitlines() == (tmp_path / "out" / "importance.tsv").read_text().splitlines()
    assert table.columns == ["motif", "effect", "low", "high", "sham", "p_value", "backgrounds"]
    assert table["motif"].to_list() == ["TGACTCA", motif.name]
    assert (table["low"] <= table["effect"]).all()
    assert (table["effect"] <= table["high"]).all()
    code, out, _ = run(regions, *TARGET, *options, "--out", tmp_path / "no", "--dry-run", "--json")
    assert code == 0
    assert json.loads(out)["motifs"] == ["TGACTCA", motif.name]
    assert not (tmp_path / "no").exists()


def test_a_table_of_inserted_motifs_is_kept_and_bound_to_what_was_asked(
    run: Run, regions: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    options = (*TARGET, "--insert", "TGACTCA", "--backgrounds", 5, "--out", out)
    regions.write_text("chrII\t8000\t8100\n")
    code, first, err = run(regions, *options)
    assert code == 0, err
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    assert sorted(before) == ["importance.tsv", "manifest.json"]
    assert run(regions, *options, "--batch-size", 2)[1] == first
    (out / "importance.tsv").unlink()  # killed before it was written
    code, again, _ = run(regions, *options, "--json")
    assert code == 0
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    row = pl.read_csv(out / "importance.tsv", separator="\t").row(0, named=True)
    assert json.loads(again)["motifs"] == [row]
    # Maps, other motifs and other shuffles go elsewhere; a dry run says so too.
    refused(run(regions, *TARGET, "--out", out), "holds a manifest.json", "not of attributions")
    refused(run(regions, *options, "--insert", "GGGCGG", "--dry-run"), "with insert ['TGACTCA']")
    refused(run(regions, *options, "--seed", 1), "with seed 0")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.parametrize("name", ["importance.tsv", "shap.npz", "manifest.json"])
def test_inserted_motifs_are_not_written_over_what_lies_there(
    run: Run, regions: Path, tmp_path: Path, name: str
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / name).write_text("mine\n")
    insert = ("--insert", "TGACTCA", "--backgrounds", 5, "--out", out)
    refused(run(regions, *TARGET, *insert), f"holds a {name} that is not of inserted motifs")
    assert [path.name for path in out.iterdir()] == [name]
    assert (out / name).read_text() == "mine\n"
    refused(run(regions, *TARGET, *insert[:-1], out / name), "is a file; give a folder")


def test_packaged_data_go_by_name_and_a_dry_run_names_the_device(
    run: Run, regions: Path, tmp_path: Path
) -> None:
    import torch

    options = (
        "--genome", "example:yeast_mini/sacCer3_II_IV_XVI.fa.gz", "--device", "auto", "--seqlets",
        "--motifs", "example:motifs/JASPAR2026_CORE_fungi.meme.gz", "--out", tmp_path / "out",
        "--dry-run", "--json",
    )  # fmt: skip
    code, out, err = run(regions, *TARGET, *options)
    assert code == 0, err
    plan = json.loads(out)
    assert plan["regions"] == 2
    assert plan["device"] == ("cuda" if torch.cuda.is_available() else "cpu")
    refused(run(Path("example:none.bed"), *TARGET, *options[:-1]), "none.bed")


def test_regions_that_are_wrong_are_named_by_file_and_line(run: Run, tmp_path: Path) -> None:
    path, out = tmp_path / "r.bed", tmp_path / "out"
    for text, *parts in [
        ("chrII\t5\t9\nchrII\t813180\t813190\n", "r.bed line 2", "ends at 813184"),
        ("chrII\t5\t9\nchrZ\t5\t9\n", "r.bed line 2", "no chromosome 'chrZ'"),
        ("chrZ\t5\t9\n", "no chromosome of"),
        ("# nothing\n", "r.bed holds no interval"),
        ("chrII\t9\t5\n", "r.bed line 1"),
    ]:
        path.write_text(text)
        refused(run(path, *TARGET, "--out", out), *parts)
    assert not out.exists()


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        ((), ("--target says what is explained",)),
        (("--target", 'mean(id == "b")'), ("id", "'a'")),
        (("--target", "mean(assy == 'ATAC')"), ("assy", "assay")),
        (("--target", "median()"), ("median",)),
        (("--target", "probe(none.npz)"), ("none.npz", "does not exist")),
        ((*TARGET, "--method", "lime"), ("no method 'lime'",)),
        ((*TARGET, "--average", "shift"), ("--average is 'shift'",)),
        ((*TARGET, "--species", "fly"), ("fly",)),
        ((*TARGET, "--device", "cuda:7"), ("cuda:7", "give cpu or auto")),
        ((*TARGET, "--motifs", "none.meme"), ("none.meme", "does not exist")),
        ((*TARGET, "--insert", "MA0139.2"), ("give --motifs",)),
        ((*TARGET, "--insert", "TGACTCA", "--seqlets"), ("makes no maps",)),
        ((*TARGET, "--insert", "TGACTCA", "--background", "flat"), ("no background 'flat'",)),
    ],
)
def test_an_option_that_does_not_fit_is_one_message_and_nothing_is_written(
    run: Run, regions: Path, tmp_path: Path, options: tuple[str, ...], parts: tuple[str, ...]
) -> None:
    refused(run(regions, *options, "--out", tmp_path / "out"), *parts)
    assert not (tmp_path / "out").exists()
