"""`cislens model import` and `export`: whole folders, predictions, refusals, kills."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file

from cislens.cli.app import main
from cislens.files import file_digest
from cislens.models.profile import ProfileModel, build_model
from cislens.models.published.exporting import published_state
from cislens.models.saving import load_model
from cislens.signal.datacard import DataCard

Run = Callable[..., tuple[int, str, str]]
SHAPE: dict[str, Any] = {"dim": 24, "depth": 1, "heads": 2, "key_dim": 4, "width_multiple": 4}
TRACKS = {"human": 4, "mouse": 2}
GROUPS = ("accessibility", "TF", "histone", "CAGE")
LENGTH = 2_048
POSITION = ("--positions", "position")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """`run("model", "import", ...)` -> exit code, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr("sys.argv", ["cislens", *map(str, arguments)])
        with pytest.raises(SystemExit) as stopped:
            main()
        code = stopped.value.code
        captured = capfd.readouterr()
        return (code if isinstance(code, int) else 0), captured.out, captured.err

    return call


def fresh(kind: str) -> ProfileModel:
    heads = [
        {"species": s, "tracks": [f"{s}-{i}" for i in range(n)], "groups": GROUPS[:n]}
        for s, n in TRACKS.items()
    ]
    config: dict[str, Any] = {"encoder": {"kind": "enformer", **SHAPE}, "heads": heads}
    config["encoder"]["positions"] = "feature-axis"
    if kind == "space":
        config["encoder"] |= {"kind": "space-paper", "species": tuple(TRACKS)}
        config |= {"crop": 2, "decoder": {"kind": "space-paper", "bins": LENGTH // 128 - 4}}
    torch.manual_seed(0)
    return build_model(config).eval()


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One file of each architecture, and the tables of the tracks."""
    folder = tmp_path_factory.mktemp("published")
    for kind in ("space", "enformer"):
        state = published_state(fresh(kind), kind)  # type: ignore[arg-type]
        save_file({k: v.clone() for k, v in state.items()}, folder / f"{kind}.safetensors")
    for species, count in TRACKS.items():
        lines = [f"{species}-{i}\t{i}.bw\t{species}\t{GROUPS[i]}\n" for i in range(count)]
        (folder / f"{species}.tsv").write_text("id\tfile\tspecies\tgroup\n" + "".join(lines))
    return folder


def targets(published: Path) -> list[str]:
    return [part for s in TRACKS for part in ("--targets", f"{s}={published / f'{s}.tsv'}")]


def refused(result: tuple[int, str, str], out: Path, *parts: str) -> None:
    code, printed, err = result
    assert code == 2, err
    assert len([line for line in err.splitlines() if line.startswith("error: ")]) == 1, err
    assert "Traceback" not in err
    assert printed == ""
    for part in parts:
        assert part in err
    assert not out.exists()
    assert not list(out.parent.glob(".*.partial"))


def test_space_with_tables_predicts(run: Run, published: Path, tmp_path: Path) -> None:
    source, out = published / "space.safetensors", tmp_path / "model"
    code, printed, err = run(
        "model", "import", "space", source, "--out", out, "--length", LENGTH,
        "--license", "CC-BY-4.0", "--json", *targets(published),
    )  # fmt: skip
    assert code == 0, err
    assert json.loads(printed)["positions"] == "feature-axis"
    model, wanted = load_model(out), fresh("space")
    assert model.config == wanted.config.model_copy(update={"encoder": model.config.encoder})
    assert model.config.heads[0].groups == GROUPS
    for key, value in wanted.state_dict().items():
        assert torch.equal(model.state_dict()[key], value), key
    card = (out / "README.md").read_text()
    for told in (file_digest(source), "CC-BY-4.0", '"feature-axis"', "space.safetensors"):
        assert told in card
    assert DataCard.read(out).length == LENGTH
    (tmp_path / "genome.fa").write_text(">chr1\n" + "ACGTTGCAGT" * 800 + "\n")
    code, _, err = run(
        "predict", out, "--genome", tmp_path / "genome.fa", "--species", "mouse",
        "--out", tmp_path / "tracks",
    )  # fmt: skip
    assert code == 0, err
    assert sorted(p.name for p in (tmp_path / "tracks").glob("*.bw")) == [
        "mouse-0.bw",
        "mouse-1.bw",
    ]


def test_enformer_records_its_positions(run: Run, published: Path, tmp_path: Path) -> None:
    source = published / "enformer.safetensors"
    for told in ("position", "feature-axis"):
        given = ("--out", tmp_path / told, "--positions", told)
        code, _, err = run("model", "import", "enformer", source, *given)
        assert code == 0, err
        model = load_model(tmp_path / told)
        assert model.config.encoder.model_dump()["positions"] == told
        assert model.config.crop == 320
        assert model.config.tracks["mouse"] == ("mouse/0", "mouse/1")
        card = (tmp_path / told / "README.md").read_text()
        assert f'"{told}"' in card
        assert "license of the weights: unknown" in card
        assert not (tmp_path / told / "data.json").exists()


@pytest.mark.parametrize("kind", ["space", "enformer"])
@pytest.mark.parametrize("name", ["weights.safetensors", "pytorch_model.bin", "folder"])
def test_export_and_import_give_the_same_bytes(
    run: Run, published: Path, tmp_path: Path, kind: str, name: str
) -> None:
    source = published / f"{kind}.safetensors"
    import_ = ["--length", LENGTH, *targets(published)]
    import_ += ["--positions", "position"] if kind == "enformer" else []
    assert run("model", "import", kind, source, "--out", tmp_path / "one", *import_)[0] == 0
    code, printed, err = run("model", "export", kind, tmp_path / "one", "--out", tmp_path / name)
    assert code == 0, err
    file = Path(printed.strip())
    read = load_file if file.suffix == ".safetensors" else torch.load
    stored, wanted = read(file), load_file(source)
    assert stored.keys() == wanted.keys()
    assert all(torch.equal(stored[key], value) for key, value in wanted.items())
    again = ["model", "import", kind, tmp_path / name, "--out", tmp_path / "two", *import_]
    assert run(*again)[0] == 0
    weights = [tmp_path / folder / "model.safetensors" for folder in ("one", "two")]
    assert weights[0].read_bytes() == weights[1].read_bytes()


def change(source: Path, to: Path, edit: Callable[[dict[str, torch.Tensor]], Any]) -> Path:
    state = load_file(source)
    edit(state)
    save_file(state, to)
    return to


@pytest.mark.parametrize(
    ("edit", "parts"),
    [
        (lambda s: s.pop("model.stem.0.bias"), ["1 missing: model.stem.0.bias"]),
        (
            lambda s: s.update({"model.a": torch.zeros(1)}),
            ["no whole SPACE file. 1 not of this model: model.a."],
        ),
        (
            lambda s: s.update(a=torch.zeros(1)),
            ["no whole SPACE file. 1 without the model. of the others: a."],
        ),
        (
            lambda s: s.update({"model.heads.human.0.bias": torch.zeros(3)}),
            ["of another shape: model.heads.human.0.bias (found (3,), expected (4,))"],
        ),
        (lambda s: s["model.stem.0.bias"].fill_(torch.nan), ["not finite: model.stem.0.bias"]),
    ],
)
def test_broken_files(run: Run, published: Path, tmp_path: Path, edit: Any, parts: Any) -> None:
    file = change(published / "space.safetensors", tmp_path / "broken.safetensors", edit)
    out = tmp_path / "model"
    given = ["--out", out, "--length", LENGTH, *targets(published)]
    refused(run("model", "import", "space", file, *given), out, "broken.safetensors", *parts)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["space", "{p}/none.bin"], ["none.bin does not exist"]),
        (["space", "{p}/enformer.safetensors"], ["looks like Enformer", "import enformer"]),
        (["enformer", "{p}/space.safetensors", *POSITION], ["looks like SPACE", "import space"]),
        (["space", "{p}/space.safetensors"], ["4 tracks of human", "--targets human=FILE"]),
        (["space", "{p}/human.tsv"], ["human.tsv is no file of tensors by its name"]),
        (
            ["enformer", "{p}/enformer.safetensors"],
            [
                "--positions is missing, and the file does not say it",
                "--positions position for weights converted from DeepMind's",
                "--positions feature-axis for weights that enformer-pytorch trained",
            ],
        ),
        (
            ["enformer", "{p}/enformer.safetensors", "--positions", "positon"],
            ["--positions is 'positon'. Did you mean 'position'"],
        ),
        (
            ["enformer", "{p}/enformer.safetensors", *POSITION, "--length", "196600"],
            ["196,600 bp", "nearest length that does is 196,608 bp"],
        ),
        (
            ["enformer", "{p}/enformer.safetensors", *POSITION, "--targets", "{p}/human.tsv"],
            ["expected SPECIES=FILE"],
        ),
        (
            ["enformer", "{p}/enformer.safetensors", *POSITION, "--targets", "human={p}/human.tsv"],
            ["none of mouse"],
        ),
        (
            ["enformer", "{p}/enformer.safetensors", *POSITION, "--targets", "human={p}/mouse.tsv"],
            ["mouse.tsv has no tracks of human"],
        ),
    ],
)
def test_refusals(
    run: Run, published: Path, tmp_path: Path, arguments: list[str], parts: list[str]
) -> None:
    filled = [argument.format(p=published) for argument in arguments]
    out = tmp_path / "model"
    refused(run("model", "import", *filled, "--out", out), out, *parts)


def test_another_folder_is_not_replaced(run: Run, published: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    source = published / "enformer.safetensors"
    import_ = ("model", "import", "enformer", source, *POSITION)
    code, _, err = run(*import_, "--out", tmp_path)
    assert code == 2
    assert "holds 'notes.txt' and no model of cislens" in err
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
    assert run(*import_, "--out", tmp_path / "model")[0] == 0
    code, _, err = run("model", "export", "enformer", tmp_path / "model", "--out", tmp_path)
    assert code == 2
    assert "exists already" in err


def test_a_model_of_another_kind_is_not_exported(
    run: Run, model_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.safetensors"
    for kind in ("space", "enformer"):
        refused(
            run("model", "export", kind, model_folder, "--out", out),
            out,
            "does not fit the published",
            "its encoder is space-plus",
        )


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_killed_import_leaves_no_model(
    published: Path, tmp_path: Path, number: signal.Signals
) -> None:
    """Interrupted it leaves nothing at all; killed at once, no folder that could be read."""
    out = tmp_path / "here" / "model"
    waits = (
        "import sys, time, cislens.models.saving as saving\n"
        "write = saving.save_file\n"
        "def slow(*a, **k):\n write(*a, **k)\n time.sleep(60)\n"
        "saving.save_file = slow\n"
        "from cislens.cli.app import main\n"
        f"sys.argv = {['cislens', 'model', 'import', 'enformer']!r}"
        f" + [{str(published / 'enformer.safetensors')!r}, '--out', {str(out)!r}]"
        f" + {list(POSITION)!r}\n"
        "main()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", waits], stderr=subprocess.DEVNULL)
    end = time.monotonic() + 60
    while not list(tmp_path.glob("here/.model.*.partial/model.safetensors")):
        assert process.poll() is None, "the import ended before it was killed"
        assert time.monotonic() < end
        time.sleep(0.05)
    process.send_signal(number)
    assert process.wait(timeout=30) != 0
    assert not out.exists()
    if number == signal.SIGINT:
        assert not list(out.parent.iterdir())


def test_real_tables_give_ids(core_data: Path, tmp_path: Path, run: Run) -> None:
    """The tables of Basenji2, as they are, for heads of their size."""
    folder = core_data / "basenji_tfrecords"
    given = [
        part
        for species in TRACKS
        for part in (
            "--targets",
            f"{species}={folder / f'enformer_basenji2_targets_{species}.txt.gz'}",
        )
    ]
    state = published_state(fresh("enformer"), "enformer")
    for species, rows in (("human", 5_313), ("mouse", 1_643)):
        state[f"_heads.{species}.0.weight"] = torch.zeros(rows, 48)
        state[f"_heads.{species}.0.bias"] = torch.zeros(rows)
    save_file({k: v.clone() for k, v in state.items()}, tmp_path / "e.safetensors")
    out = tmp_path / "model"
    source = tmp_path / "e.safetensors"
    code, _, err = run("model", "import", "enformer", source, *POSITION, "--out", out, *given)
    assert code == 0, err
    model = load_model(out)
    assert model.config.tracks["human"][0] == "ENCFF833POA"
    assert model.config.tracks["mouse"][0] == "ENCFF866ZTV"
    groups = pl.Series(model.config.groups["human"]).value_counts().rows()
    assert dict(groups) == {"accessibility": 684, "TF": 1_993, "histone": 1_998, "CAGE": 638}
    assert len(DataCard.read(out).tracks) == 6_956
