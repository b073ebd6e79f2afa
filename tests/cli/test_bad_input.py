"""A mistake gives one message that says what to do, exit code 2, and nothing half-written."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from cislens.cli.app import main
from cislens.example import example_path
from cislens.genome.codes import decode
from cislens.randomness import generator
from cislens.signal.bigwig import write_bigwig

BASES = decode(generator("bad input").integers(0, 4, 40_000).astype(np.uint8))

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """`run("data", "profile", ...)` -> exit code, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["cislens", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        code = stopped.value.code
        captured = capfd.readouterr()
        return (code if isinstance(code, int) else 0), captured.out, captured.err

    return call


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A small project that is right: one genome, one track, one recipe."""
    (tmp_path / "genome.fa").write_text(f">chr1\n{BASES}\n>chr2\nACGT\n")
    write_bigwig(tmp_path / "a.bw", {"chr1": 40_000}, ["chr1"], [100], [900], [2.0])
    (tmp_path / "tracks.tsv").write_text("id\tfile\tspecies\na\ta.bw\tyeast\n")
    (tmp_path / "data.yaml").write_text(
        "genomes: {yeast: genome.fa}\ntracks: tracks.tsv\nlength: 512\n"
        "split: {block_bp: 1024, fractions: {train: 0.6, valid: 0.2, test: 0.2}}\n"
    )
    return tmp_path


def build(run: Run, project: Path) -> tuple[int, str, str]:
    return run("data", "profile", project / "data.yaml", "--out", project / "out" / "store")


def refused(result: tuple[int, str, str], *parts: str) -> None:
    code, out, err = result
    messages = [line for line in err.splitlines() if line.startswith("error: ")]
    assert code == 2, err
    assert len(messages) == 1, err
    assert "Traceback" not in err
    assert out == ""
    for part in parts:
        assert part in err


def test_the_project_itself_builds(run: Run, project: Path) -> None:
    code, out, err = build(run, project)
    assert code == 0, err
    assert (project / "out" / "store" / "manifest.json").exists()
    assert "windows" in out


def test_missing_genome(run: Run, project: Path) -> None:
    (project / "genome.fa").unlink()
    refused(build(run, project), "genome.fa", "does not exist")
    assert not (project / "out").exists()


def test_foreign_chromosome_names(run: Run, project: Path) -> None:
    write_bigwig(project / "a.bw", {"scaffold_9": 40_000}, ["scaffold_9"], [0], [9], [1.0])
    refused(build(run, project), "scaffold_9", "chr1")


def test_track_beyond_the_chromosome(run: Run, project: Path) -> None:
    write_bigwig(project / "a.bw", {"chr1": 50_000}, ["chr1"], [45_000], [45_100], [1.0])
    refused(build(run, project), "a.bw", "50,000", "40,000", "chr1")


def test_truncated_bigwig(run: Run, project: Path) -> None:
    data = (project / "a.bw").read_bytes()
    (project / "a.bw").write_bytes(data[: len(data) // 2])
    refused(build(run, project), "a.bw")


def test_window_longer_than_every_chromosome(run: Run, project: Path) -> None:
    recipe = project / "data.yaml"
    recipe.write_text(recipe.read_text().replace("512", "65536"))
    refused(build(run, project), "65536", "40000")


def test_unknown_recipe_key(run: Run, project: Path) -> None:
    recipe = project / "data.yaml"
    recipe.write_text(recipe.read_text().replace("length", "lenght"))
    refused(build(run, project), "line 3", "'lenght'", "'length'")


def test_wrong_track_table(run: Run, project: Path) -> None:
    (project / "tracks.tsv").write_text("id\tfile\tspecies\na\ta.bw\tyest\n")
    refused(build(run, project), "'yest'", "'yeast'")


def test_odd_fasta_is_read_with_a_report(run: Run, project: Path) -> None:
    lines = [BASES[:20_000].lower(), "RY" + BASES[20_002:]]
    text = ">chr1 with words\r\n" + "\r\n".join(lines) + "\r\n"
    (project / "genome.fa").write_bytes(text.encode())
    code, out, err = build(run, project)
    assert code == 0, err
    assert '"R": 1' in out
    assert '"Y": 1' in out


def test_an_empty_fasta_record_is_named(run: Run, project: Path) -> None:
    (project / "genome.fa").write_text(f">chr1\n{BASES}\n>hollow\n")
    refused(build(run, project), "genome.fa line 3", "'hollow' is empty")


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("chr1\t200\t200", ["line 2", "200"]),
        ("chr1\t300\t200", ["line 2", "300"]),
        ("chr1\tten\t200", ["line 2", "ten"]),
        ("chr1\t100", ["line 2"]),
    ],
)
def test_bad_bed_lines_are_named(
    run: Run, project: Path, model_folder: Path, line: str, parts: list[str]
) -> None:
    bed = project / "regions.bed"
    bed.write_text(f"chr1\t0\t100\n{line}\n")
    result = run(
        "predict", model_folder, "--genome", project / "genome.fa", "--species", "yeast",
        "--regions", bed, "--out", project / "out",
    )  # fmt: skip
    refused(result, "regions.bed", *parts)
    assert not (project / "out").exists()


def test_regions_of_another_genome(run: Run, project: Path, model_folder: Path) -> None:
    bed = project / "regions.bed"
    bed.write_text("chr1\t0\t100\nplasmid\t0\t100\n")
    result = run(
        "predict", model_folder, "--genome", project / "genome.fa", "--species", "yeast",
        "--regions", bed, "--out", project / "out",
    )  # fmt: skip
    refused(result, "regions.bed", "'plasmid'")


def test_truncated_store(run: Run, project: Path) -> None:
    build(run, project)
    store = project / "out" / "store"
    shard = max(store.rglob("*"), key=lambda path: path.stat().st_size if path.is_file() else 0)
    shard.write_bytes(shard.read_bytes()[:-1])
    recipe = project / "train.yaml"
    recipe.write_text("store: out/store\nmodel: space-plus-tiny\ntraining: {steps: 1}\n")
    result = run("train", recipe, "--out", project / "run")
    refused(result, "truncated or damaged", shard.name)
    assert not (project / "run").exists()


def test_json_error_is_one_object(run: Run, project: Path) -> None:
    (project / "genome.fa").unlink()
    code, out, _ = run("data", "profile", project / "data.yaml", "--out", project / "o", "--json")
    assert code == 2
    assert set(json.loads(out)) == {"error"}


def test_a_wrong_option_is_exit_two(run: Run) -> None:
    code, _, err = run("demo", "--stepz", "3")
    assert code == 2
    assert "--steps" in err


def test_packaged_tracks_are_where_the_table_says() -> None:
    folder = example_path("tracks.tsv").parent
    files = [row.split("\t")[1] for row in (folder / "tracks.tsv").read_text().splitlines()[1:]]
    assert len(files) == 6
    assert all((folder / name).exists() for name in files)


def test_a_file_where_a_folder_should_be(run: Run, project: Path, model_folder: Path) -> None:
    (project / "taken").write_text("mine")
    result = run(
        "predict", model_folder, "--genome", project / "genome.fa", "--species", "yeast",
        "--out", project / "taken",
    )  # fmt: skip
    refused(result, "taken")
    assert (project / "taken").read_text() == "mine"


def test_a_folder_where_a_recipe_should_be(run: Run, project: Path) -> None:
    refused(run("train", project, "--out", project / "run"), str(project))


def test_a_dry_run_refuses_an_unknown_species(run: Run, project: Path, model_folder: Path) -> None:
    result = run(
        "predict", model_folder, "--genome", project / "genome.fa", "--species", "yeats",
        "--out", project / "out", "--dry-run",
    )  # fmt: skip
    refused(result, "'yeats'", "'yeast'")


def test_parts_of_other_names_are_refused(run: Run, project: Path) -> None:
    recipe = project / "data.yaml"
    recipe.write_text(recipe.read_text().replace("valid", "vald"))
    refused(build(run, project), "fractions", "train, valid, test")


def test_a_repeated_key_is_refused(run: Run, project: Path) -> None:
    recipe = project / "data.yaml"
    recipe.write_text(recipe.read_text() + "length: 1024\n")
    refused(build(run, project), "'length' is there twice")
