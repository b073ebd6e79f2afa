"""`cislens embed`: every source and every input, resumed after a kill, and mistakes by name."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cislens.cli.app import main
from cislens.cli.embed_inputs import BASELINES
from cislens.evaluation.tasks.card import Metric, Target, TaskCard
from cislens.evaluation.tasks.task import Task, make_task
from cislens.example import example_path
from cislens.files import file_digest
from cislens.genome.codes import Codes, decode, encode, reverse_complement
from cislens.models.saving import load_model
from cislens.representations.baselines import KmerCounts
from cislens.representations.collection import open_embeddings
from cislens.representations.encoder import EncoderEmbedding
from cislens.representations.store import EmbeddingStore, StoredEmbedding

RNG = np.random.default_rng(0)
SEQUENCES = [RNG.integers(0, 4, 200).astype(np.uint8) for _ in range(12)]

Run = Callable[..., dict]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """`run("--baseline", "gc", ...)` -> the JSON that `cislens embed` answers."""

    def call(*arguments: object) -> dict:
        monkeypatch.setattr("sys.argv", ["cislens", "embed", *map(str, arguments), "--json"])
        with pytest.raises(SystemExit):
            main()
        out, err = capfd.readouterr()
        assert "Traceback" not in err
        answer: dict = json.loads(out)
        return answer

    return call


@pytest.fixture
def fasta(tmp_path: Path) -> Path:
    path = tmp_path / "some.fa"
    path.write_text("".join(f">s{i}\n{decode(codes)}\n" for i, codes in enumerate(SEQUENCES)))
    return path


def variants(folder: Path) -> Task:
    """Twelve reference windows, each with an alternate that differs at the anchor."""
    rows = pl.DataFrame(
        {
            "example_id": [f"v{i:02d}" for i in range(12)],
            "y": [[float(i % 5)] for i in range(12)],
            "split": ["train"] * 4 + ["valid"] * 4 + ["test"] * 4,
            "cluster_id": [f"c{i}" for i in range(12)],
            "block_id": [f"b{i}" for i in range(12)],
        }
    )
    alternates = [codes.copy() for codes in SEQUENCES]
    for codes in alternates:
        codes[100] = (codes[100] + 1) % 4
    card = TaskCard(
        name="effects", kind="variant", species="yeast", window=200, strand="stranded",
        target=Target(names=["effect"]), metric=Metric(primary="pearson"), split="predefined",
        block="locus", score_sign="signed",
    )  # fmt: skip
    task = make_task(card, rows, SEQUENCES, alternates)
    task.save(folder)
    return task


def test_a_fasta_file_by_a_baseline(run: Run, fasta: Path, tmp_path: Path) -> None:
    answer = run("--baseline", "kmer-1to5", "--fasta", fasta, "--out", tmp_path / "store")
    assert (answer["sequences"], answer["bp"], answer["views"]) == (12, 2400, {"features": 692})
    stored = StoredEmbedding(tmp_path / "store")
    assert stored.store.index["example_id"].to_list() == [f"s{i}" for i in range(12)]
    assert np.array_equal(stored.embed(SEQUENCES, None), KmerCounts(5).embed(SEQUENCES, None))
    again = run("--baseline", "kmer-1to5", "--fasta", fasta, "--out", tmp_path / "store")
    assert again["digest"] == answer["digest"]


@pytest.mark.parametrize("name", BASELINES)
def test_every_baseline_goes_by_its_own_name(
    run: Run, fasta: Path, tmp_path: Path, name: str
) -> None:
    if name.startswith("gkmer"):
        out = tmp_path / "few.fa"
        out.write_text("".join(fasta.read_text().splitlines(keepends=True)[:4]))
        fasta = out
    assert run("--baseline", name, "--fasta", fasta, "--out", tmp_path / "s")["encoder"] == name


def test_a_task_by_a_model_with_views_and_alleles(
    run: Run, model_folder: Path, tmp_path: Path
) -> None:
    task = variants(tmp_path / "task")
    out = tmp_path / "store"
    answer = run(
        "--model", model_folder, "--task", tmp_path / "task", "--views", "all", "--out", out
    )
    assert answer["task"] == {"name": "effects", "hash": task.task_hash}
    assert (answer["species"], answer["stranded"], answer["sequences"]) == ("yeast", True, 24)
    stored, live = StoredEmbedding(out), EncoderEmbedding(load_model(model_folder).encoder, "m")
    assert (stored.name, stored.digest != live.digest) == ("model", True)
    assert stored.views == live.views
    fold = task.fold("test")
    assert fold.alternates is not None
    for sequences in (fold.sequences, fold.alternates):
        for view in ("L1.max", "out.mean"):
            got = stored.embed_views(sequences, "yeast", True, [view])[view]
            exact = live.embed_views(sequences, "yeast", True, [view])[view]
            assert got == pytest.approx(exact, abs=1e-5)
    stored.store.require_task("effects", task.task_hash)


def test_packaged_data_by_name(run: Run, tmp_path: Path) -> None:
    """As predict and variants take it."""
    bed = tmp_path / "two.bed"
    bed.write_text("chrII\t1000\t1200\nchrIV\t5000\t5200\n")
    name = "yeast_mini/sacCer3_II_IV_XVI.fa.gz"
    found = [
        run("--baseline", "gc", "--bed", bed, "--genome", genome, "--out", tmp_path / str(at))
        for at, genome in enumerate((f"example:{name}", example_path(name)))
    ]
    assert found[0]["sequences"] == 2
    assert found[0]["digest"] == found[1]["digest"]


def test_controls_of_a_model(run: Run, model_folder: Path, fasta: Path, tmp_path: Path) -> None:
    live = EncoderEmbedding(load_model(model_folder).encoder, "m")
    made = {
        "all": live.twin(3),
        "shuffle": live.control("shuffle", 3),
        "embed": live.control("embed", 3),
    }
    for how, control in made.items():
        given = ["--model", model_folder, "--fasta", fasta, "--random", how, "--draw", 3]
        run(*given, "--out", tmp_path / how)
        stored = StoredEmbedding(tmp_path / how)
        assert (stored.kind, stored.store.manifest["seed"]) == ("random", 3)
        assert stored.store.manifest["encoder"]["digest"] == control.digest
        assert stored.embed(SEQUENCES, None) == pytest.approx(
            control.embed(SEQUENCES, None), abs=1e-5
        )


def test_parts_of_a_task_are_embedded_one_by_one(run: Run, tmp_path: Path) -> None:
    task = variants(tmp_path / "whole")
    card = task.card.model_copy(
        update={
            "kind": "regression", "parts": [80, 120], "score_sign": None, "strand": "unstranded",
        }
    )  # fmt: skip
    make_task(card, task.examples.drop("alt_sequence"), SEQUENCES).save(tmp_path / "parts")
    run("--baseline", "gc", "--task", tmp_path / "parts", "--out", tmp_path / "s")
    stored = StoredEmbedding(tmp_path / "s")
    assert stored.store.index["example_id"].to_list()[:3] == ["v00:1", "v00:2", "v01:1"]
    assert stored.embed([SEQUENCES[3][:80], SEQUENCES[3][80:]], "yeast").shape == (2, 2)


def test_intervals_are_read_on_the_strand_that_is_asked(run: Run, tmp_path: Path) -> None:
    (tmp_path / "genome.fa").write_text(f">chrI\n{decode(np.concatenate(SEQUENCES))}\n")
    (tmp_path / "some.bed").write_text("chrI\t0\t60\ta\t0\t+\nchrI\t30\t90\tb\t0\t-\n")
    given = ["--baseline", "onehot-linear", "--bed", tmp_path / "some.bed"]
    given += ["--genome", tmp_path / "genome.fa"]
    run(*given, "--stranded", "--out", tmp_path / "one")
    genome = np.concatenate(SEQUENCES)
    expected: list[Codes] = [genome[:60], reverse_complement(genome[30:90])]
    stored = StoredEmbedding(tmp_path / "one")
    assert stored.embed(expected, None, True).shape == (2, 240)
    assert stored.store.index["example_id"].to_list() == ["chrI:0-60:+", "chrI:30-90:-"]
    run(*given, "--unstranded", "--out", tmp_path / "both")
    assert StoredEmbedding(tmp_path / "both").embed([genome[30:90]], None).shape == (1, 120)
    (tmp_path / "some.bed").write_text("chrI\t0\t60\nchrV\t30\t90\n")
    answer = run(*given, "--out", tmp_path / "three")
    assert "1 intervals lie on chromosomes" in answer["error"]


def test_bins_and_half_precision(run: Run, model_folder: Path, fasta: Path, tmp_path: Path) -> None:
    out = tmp_path / "store"
    run("--model", model_folder, "--fasta", fasta, "--bins", "--dtype", "float16", "--out", out)
    stored = open_embeddings(out)
    live = EncoderEmbedding(load_model(model_folder).encoder, "m")
    exact = live.embed_bins(SEQUENCES, None)
    assert stored.bin_size == 128
    assert stored.embed_bins(SEQUENCES, None) == pytest.approx(exact, rel=1e-3, abs=1e-6)


def test_an_unknown_species_is_said(
    run: Run,
    model_folder: Path,
    fasta: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    given = ["--model", model_folder, "--fasta", fasta, "--species"]
    run(*given, "yeast", "--out", tmp_path / "yeast")
    assert "unknown species" not in caplog.text
    run(*given, "worm", "--out", tmp_path / "worm")
    assert "the model knows yeast; worm is embedded as an unknown species" in caplog.text


def test_iupac_codes_are_counted(run: Run, tmp_path: Path) -> None:
    (tmp_path / "a.fa").write_text(">a\nACGTRRYACGT\n>b\nACGTNNRACGT\n")
    answer = run("--baseline", "gc", "--fasta", tmp_path / "a.fa", "--out", tmp_path / "store")
    assert answer["remapped"] == {"R": 3, "Y": 1}
    index = EmbeddingStore.open(tmp_path / "store").index
    assert index["n_frac"].to_list() == pytest.approx([3 / 11, 3 / 11])
    (found,) = StoredEmbedding(tmp_path / "store").embed([encode("ACGTNNNACGT")], None)
    assert found.tolist() == [0.5, 0.0]


def test_a_dry_run_estimates_and_writes_nothing(run: Run, fasta: Path, tmp_path: Path) -> None:
    out = tmp_path / "store"
    plan = run("--baseline", "kmer-1to5", "--fasta", fasta, "--out", out, "--dry-run")
    assert not out.exists() and not out.with_name("store.partial").exists()
    assert (plan["sequences"], plan["bp"], plan["views"]) == (12, 2400, {"features": 692})
    assert plan["disk_bytes"] == 12 * 692 * 4
    assert plan["seconds"] == pytest.approx(2400 / plan["sample"]["bp_per_s"], abs=0.1)
    assert plan["memory_bytes"] > plan["disk_bytes"]


def test_another_python(run: Run, fasta: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow", reason="the worker reads parquet by pyarrow")
    adapter = tmp_path / "mine.py"
    adapter.write_text(
        "import numpy as np\n"
        "class Model:\n"
        "    def __init__(self, base): self.base, self.info = base, {'name': 'count-' + base}\n"
        "    def encode(self, s): return np.array([[x.count(self.base)] for x in s])\n"
        "load = Model\n"
    )
    given = ["--runner", f"python={sys.executable}", "--adapter", adapter, "--argument", "G"]
    answer = run(*given, "--fasta", fasta, "--stranded", "--out", tmp_path / "store")
    assert (answer["encoder"], answer["views"]) == ("count-G", {"features": 1})
    found = StoredEmbedding(tmp_path / "store").embed(SEQUENCES, None, True)
    assert found[:, 0].tolist() == [(codes == 2).sum() for codes in SEQUENCES]
    plan = run(*given, "--fasta", fasta, "--out", tmp_path / "other", "--dry-run")
    assert plan["disk_bytes"] == 12 * 4
    refused = run(*given, "--fasta", fasta, "--views", "a.b", "--out", tmp_path / "other")
    assert "the adapter gives its own views" in refused["error"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "name one of --model, --baseline and --runner"),
        (["--baseline", "gc", "--model", "m"], "name one of --model, --baseline and --runner"),
        (["--baseline", "kmer-1to7"], "no baseline 'kmer-1to7'. Did you mean 'kmer-1to"),
        (["--runner", "python=x"], "--runner and --adapter go together"),
        (["--runner", "x", "--adapter", "y"], "--runner is python=INTERPRETER, not 'x'"),
        (["--baseline", "gc", "--family", "gpn"], "--family needs --model"),
        (["--baseline", "gc", "--name", "x"], "--name goes with --model"),
        (["--baseline", "gc", "--random", "all"], "--random goes with --model"),
        (["--baseline", "gc", "--bed", "b"], "name one of --task, --fasta and --bed"),
        (["--baseline", "gc", "--genome", "g"], "--bed and --genome go together"),
        (["--baseline", "gc", "--views", "L1.mean"], "gc has no views but 'features'"),
        (["--baseline", "gc", "--bins"], "gc keeps no bins"),
        (["--baseline", "gc", "--dtype", "bfloat16"], "not as 'bfloat16'"),
        (["--model", "nowhere"], "run or model folder nowhere does not exist"),
    ],
)
def test_mistakes_are_named(
    run: Run, fasta: Path, tmp_path: Path, options: list[str], message: str
) -> None:
    answer = run(*options, "--fasta", fasta, "--out", tmp_path / "store")
    assert message in answer["error"]
    assert not (tmp_path / "store").exists()


def start(model: Path, fasta: Path, out: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "cislens.cli.app", "embed", "--model", str(model)]
    command += ["--fasta", str(fasta), "--views", "embed.mean,out.mean", "--stranded"]
    command += ["--out", str(out)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.slow
def test_a_killed_embedding_resumes_to_the_same_bytes(model_folder: Path, tmp_path: Path) -> None:
    fasta = tmp_path / "many.fa"
    codes = RNG.integers(0, 4, (1_024, 1_024)).astype(np.uint8)  # four chunks
    fasta.write_text("".join(f">s{i}\n{decode(row)}\n" for i, row in enumerate(codes)))
    killed = start(model_folder, fasta, tmp_path / "killed")
    done = tmp_path / "killed.partial" / "done"
    end = time.monotonic() + 60
    while len(list(done.glob("*.json"))) < 1:
        assert killed.poll() is None, "embedding ended before its first chunk"
        assert time.monotonic() < end, "no chunk was finished"
        time.sleep(0.01)
    killed.send_signal(signal.SIGKILL)
    assert killed.wait() == -signal.SIGKILL
    killed.communicate()
    assert not (tmp_path / "killed").exists()
    bytes_of = {}
    for name in ("killed", "whole"):
        process = start(model_folder, fasta, tmp_path / name)
        _, errors = process.communicate()
        assert process.returncode == 0, errors.decode()
        assert (b"resuming" in errors) == (name == "killed")
        files = [file for file in (tmp_path / name).rglob("*") if file.is_file()]
        bytes_of[name] = {
            str(file.relative_to(tmp_path / name)): file_digest(file)
            for file in files
            if file.name != "ledger.json"
        }
    assert bytes_of["killed"] == bytes_of["whole"]
    assert len(bytes_of["whole"]) == 2 + 2 * (1 + 4)
