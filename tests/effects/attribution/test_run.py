import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cislens.effects.attribution import run as module
from cislens.effects.attribution.attribute import attribute
from cislens.effects.attribution.files import contributions, read_windows
from cislens.effects.attribution.plan import Extras, Plan, Question
from cislens.effects.attribution.run import run
from cislens.effects.attribution.subject import Subject
from cislens.errors import CislensError
from cislens.example import example_path
from cislens.files import manifest_format
from cislens.genome.codes import one_hot
from cislens.genome.reference import Genome, open_genome
from cislens.motifs.library import read_library
from cislens.signal.bigwig import read_windows as read_signal

TARGET = "mean()[-200:200]"


@pytest.fixture(scope="module")
def subject(model_folder: Path) -> Subject:
    return Subject.load(model_folder)


@pytest.fixture(scope="module")
def genome() -> Genome:
    return open_genome(example_path("yeast_mini/sacCer3_II_IV_XVI.fa.gz"), "yeast")


@pytest.fixture(scope="module")
def windows(genome: Genome, tmp_path_factory: pytest.TempPathFactory) -> pl.DataFrame:
    """Five windows of 1,024 bp; the first is padded, the last two overlap."""
    path = tmp_path_factory.mktemp("regions") / "r.bed"
    starts = (100, 5_000, 9_000, 40_000, 40_300)
    path.write_text("".join(f"chrII\t{start}\t{start + 200}\tr{start}\n" for start in starts))
    return read_windows(path, genome, 1024)


def plan(
    subject: Subject, genome: Genome, windows: pl.DataFrame, out: Path, **changed: object
) -> Plan:
    given = {"question": Question(TARGET), "extras": Extras(), "device": "cpu", **changed}
    return Plan(subject, genome, windows, out=out, **given)  # type: ignore[arg-type]


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_files_hold_what_attribute_gives(
    subject: Subject, genome: Genome, windows: pl.DataFrame, tmp_path: Path
) -> None:
    manifest = run(plan(subject, genome, windows, tmp_path / "out"))
    out = tmp_path / "out"
    assert manifest_format(out) == "cislens attributions"
    assert sorted(manifest["files"]) == sorted(
        ["ohe.npz", "shap.npz", "regions.bed", "contributions.bw", "regions.tsv"]
    )
    x = one_hot(genome.windows(windows["chrom"], windows["start"].to_numpy(), 1024))
    assert (x[0].sum(0) == 0).sum() == 312  # the padding: the middle, 200, less 512
    expected = attribute(subject.model, x, TARGET, device="cpu")
    with np.load(out / "ohe.npz") as ohe, np.load(out / "shap.npz") as shap:
        assert np.array_equal(ohe["arr_0"], x)
        np.testing.assert_allclose(shap["arr_0"], expected.hypothetical, atol=1e-7, rtol=1e-4)
        per_base = contributions(shap["arr_0"], ohe["arr_0"])
    scores = pl.read_csv(out / "regions.tsv", separator="\t")
    np.testing.assert_allclose(scores["score"].to_numpy(), expected.score, rtol=1e-5)
    assert scores["reference"].null_count() == 5
    # The second window overlaps no other: the track is its map.
    start = windows["start"][1]
    found = read_signal(out / "contributions.bw", "chrII", [start], 1024)[0]
    np.testing.assert_allclose(found, per_base[1], atol=1e-7)
    # The last two share 724 bp, where the track is their mean.
    start = windows["start"][4]
    found = read_signal(out / "contributions.bw", "chrII", [start], 724)[0]
    np.testing.assert_allclose(found, (per_base[3, 300:] + per_base[4, :724]) / 2, atol=1e-7)


def test_a_run_that_was_stopped_goes_on_and_gives_the_same_bytes(
    subject: Subject,
    genome: Genome,
    windows: pl.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "_AT_ONCE", {"saliency": 2})
    extras = Extras(logos=1)
    run(plan(subject, genome, windows, tmp_path / "whole", extras=extras))

    seen: list[slice] = []
    real = Plan.attributions

    def stopped(self: Plan, rows: slice) -> object:
        seen.append(rows)
        if len(seen) == 2:
            raise KeyboardInterrupt
        return real(self, rows)

    monkeypatch.setattr(Plan, "attributions", stopped)
    again = plan(subject, genome, windows, tmp_path / "again", extras=extras)
    with pytest.raises(KeyboardInterrupt):
        run(again)
    assert not (tmp_path / "again" / "manifest.json").exists()
    assert not (tmp_path / "again" / "shap.npz").exists()
    (tmp_path / "again" / ".shap.npz.1.2.partial").write_text("half")  # of one that was killed
    run(again)
    # The first two windows were done and are not computed again.
    assert [rows.start for rows in seen] == [0, 2, 2, 4]
    assert contents(tmp_path / "again") == contents(tmp_path / "whole")
    assert sorted(path.name for path in (tmp_path / "again").iterdir()) == [
        "contributions.bw", "logos", "manifest.json", "ohe.npz", "regions.bed", "regions.tsv",
        "shap.npz",
    ]  # fmt: skip


def test_a_finished_folder_is_left_and_one_of_other_settings_refused(
    subject: Subject,
    genome: Genome,
    windows: pl.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = run(plan(subject, genome, windows, tmp_path))
    before = contents(tmp_path)
    other = Question("log(mean())")
    with pytest.raises(
        CislensError, match=r"holds attributions with target 'mean\(\)\[-200:200\]'"
    ):
        run(plan(subject, genome, windows, tmp_path, question=other))
    with pytest.raises(CislensError, match="holds attributions with regions"):
        run(plan(subject, genome, windows[1:], tmp_path))

    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(Plan, "attributions", never)
    # Where it runs, and in which batches, is no setting.
    assert run(plan(subject, genome, windows, tmp_path, batch_size=3)) == first
    assert contents(tmp_path) == before


def test_a_folder_that_was_begun_with_other_settings_is_refused(
    subject: Subject,
    genome: Genome,
    windows: pl.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Plan, "attributions", stopped)
        run(plan(subject, genome, windows, tmp_path))
    with pytest.raises(CislensError, match="holds attributions with average 'rc'"):
        run(plan(subject, genome, windows, tmp_path, question=Question(TARGET, average="none")))


def test_a_run_killed_at_its_very_end_leaves_nothing_aside_when_started_again(
    subject: Subject,
    genome: Genome,
    windows: pl.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def killed(_: Path) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(module.shutil, "rmtree", killed)
        run(plan(subject, genome, windows, tmp_path))
    assert (tmp_path / "manifest.json").exists()
    assert (tmp_path / "work").exists()
    manifest = run(plan(subject, genome, windows, tmp_path))
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")}
    assert names == {"manifest.json", *manifest["files"]}


def planted_seqlets(hypothetical_n4L: np.ndarray, one_hot_n4L: np.ndarray) -> pl.DataFrame:
    """In place of tangermeme's, whose compilation takes long: bases 500-508 of each row."""
    sums = contributions(hypothetical_n4L, one_hot_n4L)[:, 500:508].sum(1)
    rows = range(len(sums))
    return pl.DataFrame(
        {"row": rows, "start": 500, "end": 508, "attribution": sums, "p_value": 0.001},
        schema_overrides={"row": pl.Int64},
    )


def written_logo(path: Path, contributions_4L: np.ndarray, **said: object) -> None:
    """In place of logomaker's, which takes a second."""
    path.write_text(f"{said} {contributions_4L.tolist()}")


def test_a_finished_folder_gets_seqlets_and_logos_without_computing_maps_again(
    subject: Subject,
    genome: Genome,
    windows: pl.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "find_seqlets", planted_seqlets)
    monkeypatch.setattr(module, "write_logo", written_logo)
    both = Extras(2, seqlets=True)
    run(plan(subject, genome, windows, tmp_path / "at-once", extras=both))
    out = tmp_path / "later"
    run(plan(subject, genome, windows, out))

    def never(*_: object) -> None:
        raise AssertionError

    monkeypatch.setattr(Plan, "attributions", never)
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(module, "write_logo", lambda *_, **__: (_ for _ in ()).throw(
            KeyboardInterrupt))  # fmt: skip
        run(plan(subject, genome, windows, out, extras=Extras(logos=1)))
    assert not (out / "logos").exists()
    run(plan(subject, genome, windows, out, extras=Extras(logos=1)))
    manifest = run(plan(subject, genome, windows, out, extras=Extras(seqlets=True)))
    assert [name for name in manifest["files"] if name.startswith("logos/001_")]
    assert manifest["seqlets"] == 5
    run(plan(subject, genome, windows, out, extras=both))  # two logos in place of one
    assert contents(out) == contents(tmp_path / "at-once")
    # What is not asked for stays.
    run(plan(subject, genome, windows, out))
    assert contents(out) == contents(tmp_path / "at-once")


def test_seqlets_of_other_motifs_take_the_place_of_those_that_are_there(
    subject: Subject,
    genome: Genome,
    windows: pl.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "find_seqlets", planted_seqlets)
    monkeypatch.setattr(
        module,
        "name_seqlets",
        lambda seqlets, *_: seqlets.with_columns(motif=pl.lit("X"), motif_p=pl.lit(0.1)),
    )
    library = read_library(str(example_path("motifs/JASPAR2026_CORE_fungi.meme.gz")))
    run(plan(subject, genome, windows, tmp_path, extras=Extras(seqlets=True)))
    first = (tmp_path / "seqlets.bed").read_text()
    run(plan(subject, genome, windows, tmp_path, extras=Extras(0, True, library)))
    second = (tmp_path / "seqlets.bed").read_text()
    assert {line.split("\t")[3] for line in first.splitlines()} <= {"positive", "negative"}
    assert {line.split("\t")[3] for line in second.splitlines()} == {"X"}


def test_seqlets_of_somebody_else_in_a_finished_folder_stay(
    subject: Subject, genome: Genome, windows: pl.DataFrame, tmp_path: Path
) -> None:
    run(plan(subject, genome, windows, tmp_path))
    (tmp_path / "seqlets.bed").write_text("chrII\t1\t2\n")
    with pytest.raises(CislensError, match=r"holds a seqlets\.bed that is not of attributions"):
        run(plan(subject, genome, windows, tmp_path, extras=Extras(logos=1)))


def test_maps_that_are_damaged_are_said_so(
    subject: Subject, genome: Genome, windows: pl.DataFrame, tmp_path: Path
) -> None:
    run(plan(subject, genome, windows, tmp_path))
    whole = (tmp_path / "shap.npz").read_bytes()
    (tmp_path / "shap.npz").write_bytes(whole[:1000])
    with pytest.raises(CislensError, match=r"shap\.npz are damaged"):
        run(plan(subject, genome, windows, tmp_path, extras=Extras(logos=1)))
    (tmp_path / "shap.npz").write_bytes(whole)
    manifest = run(plan(subject, genome, windows, tmp_path, extras=Extras(logos=1)))
    assert manifest["extras"] == {"logos": {"regions": 1}}


@pytest.mark.slow  # what calls seqlets is compiled first
def test_seqlets_and_logos_are_of_the_maps(
    subject: Subject, genome: Genome, windows: pl.DataFrame, tmp_path: Path
) -> None:
    library = read_library(str(example_path("motifs/JASPAR2026_CORE_fungi.meme.gz")))
    manifest = run(plan(subject, genome, windows, tmp_path, extras=Extras(2, True, library)))
    logos = [name for name in manifest["files"] if name.startswith("logos/")]
    assert [name[6:10] for name in logos] == ["001_", "002_"]
    assert all((tmp_path / name).exists() for name in manifest["files"])
    rows = [line.split("\t") for line in (tmp_path / "seqlets.bed").read_text().splitlines()]
    assert len(rows) == manifest["seqlets"] > 0
    names = {motif.name.replace(" ", "_") for motif in library.motifs}
    track = tmp_path / "contributions.bw"
    for chrom, start, end, name, *_, attribution, _p, region, _q in rows:
        assert name in names
        if region == "r5000":  # overlaps no other: the sum over the track is the attribution
            width = int(end) - int(start)
            total = read_signal(track, chrom, [int(start)], width).sum()
            assert float(attribution) == pytest.approx(total, rel=1e-3)


def test_what_cannot_work_is_refused_before_anything_is_written(
    subject: Subject, genome: Genome, windows: pl.DataFrame, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    motifs = read_library(str(example_path("motifs/JASPAR2026_CORE_fungi.meme.gz")))
    refused = [
        ({"question": Question("mean(assay == 'none')")}, "assay"),
        ({"question": Question("bin(id == 'a', 5000)")}, "5000"),
        ({"question": Question(TARGET, "gradcam")}, "no method 'gradcam'"),  # type: ignore[arg-type]
        ({"question": Question(TARGET, "entropy")}, "has no target"),
        ({"question": Question(None, "entropy")}, "no head that was trained to tell"),
        ({"question": Question(TARGET, species="fly")}, "fly"),
        ({"extras": Extras(motifs=motifs)}, "ask for seqlets"),
        ({"device": "tpu"}, "no device 'tpu'"),
    ]
    for changed, message in refused:
        with pytest.raises(CislensError, match=message):
            run(plan(subject, genome, windows, out, **changed))
    assert not out.exists()


def test_maps_may_be_of_the_middle_alone(
    subject: Subject, genome: Genome, windows: pl.DataFrame, tmp_path: Path
) -> None:
    """They are those of the whole window, cut; mutagenesis reads no other base anew."""
    shown = windows[:2]
    whole = attribute(
        subject.model,
        one_hot(genome.windows(shown["chrom"], shown["start"].to_numpy(), 1024)),
        TARGET,
        "ism",
        positions=range(509, 516),
        device="cpu",
    )
    assert not whole.hypothetical[..., :509].any()
    assert not whole.hypothetical[..., 516:].any()
    run(plan(subject, genome, shown, tmp_path, question=Question(TARGET, "ism"), within=7))
    with np.load(tmp_path / "ohe.npz") as ohe, np.load(tmp_path / "shap.npz") as shap:
        assert np.array_equal(ohe["arr_0"], whole.one_hot[..., 509:516])
        np.testing.assert_allclose(
            shap["arr_0"], whole.hypothetical[..., 509:516], atol=1e-7, rtol=1e-4
        )
    rows = [line.split("\t") for line in (tmp_path / "regions.bed").read_text().splitlines()]
    starts = (shown["start"] + 509).to_list()
    assert [(int(row[1]), int(row[2])) for row in rows] == [(s, s + 7) for s in starts]
    per_base = whole.per_base[1, 509:516]
    found = read_signal(tmp_path / "contributions.bw", "chrII", [starts[1] - 1], 9)[0]
    np.testing.assert_allclose(found[1:-1], per_base, atol=1e-7)
    with pytest.raises(CislensError, match="give 1 to 1024"):
        run(plan(subject, genome, shown, tmp_path / "o", within=1025))


def test_regions_beside_the_results_are_not_overwritten(
    subject: Subject, genome: Genome, windows: pl.DataFrame, tmp_path: Path
) -> None:
    given = tmp_path / "regions.bed"
    given.write_text("chrII\t5000\t5200\n")
    with pytest.raises(CislensError, match=r"holds a regions\.bed that is not of attributions"):
        run(plan(subject, genome, windows, tmp_path))
    assert [path.name for path in tmp_path.iterdir()] == ["regions.bed"]
    assert given.read_text() == "chrII\t5000\t5200\n"
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "manifest.json").write_text("[1]")
    with pytest.raises(CislensError, match=r"holds a manifest\.json that is not of attributions"):
        run(plan(subject, genome, windows, tmp_path / "other"))


def test_a_disk_that_is_too_small_is_said_before_anything_is_computed(
    subject: Subject,
    genome: Genome,
    windows: pl.DataFrame,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    free = type("Free", (), {"free": 46 * 5 * 1024 - 1})
    monkeypatch.setattr("shutil.disk_usage", lambda _: free)
    with pytest.raises(CislensError, match="needs up to 235,520 bytes, 235,519 are free"):
        run(plan(subject, genome, windows, tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_the_settings_name_the_numbers_of_a_probe(
    subject: Subject, genome: Genome, windows: pl.DataFrame, tmp_path: Path
) -> None:
    from cislens.effects.attribution.targets import write_probe

    channels = subject.model.net.encoder.dim  # type: ignore[union-attr]
    question = Question(f"probe({tmp_path / 'p.npz'})")
    digests = []
    for value in (1.0, 2.0):
        write_probe(tmp_path / "p.npz", np.full(channels, value))  # type: ignore[arg-type]
        settings = plan(subject, genome, windows, tmp_path / "o", question=question).settings()
        digests.append(settings["probe"])
    assert digests[0] != digests[1]
    assert json.dumps(settings)
    assert plan(subject, genome, windows, tmp_path / "o").settings()["probe"] is None
