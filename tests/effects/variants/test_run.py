"""A run over a file of variants: what is in its folder, and what happens to it."""

import gzip
import json
import tracemalloc
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pysam
import pytest
from scipy.stats import false_discovery_control

from cislens.effects.variants import parts
from cislens.effects.variants import run as module
from cislens.effects.variants.calibration import Null
from cislens.effects.variants.request import Request
from cislens.effects.variants.result import VariantScores
from cislens.effects.variants.run import plan_variants, run_variants
from cislens.effects.variants.scores import Scoring, VariantScorer, score_variants
from cislens.errors import CislensError
from cislens.files import file_digest
from cislens.genome.codes import decode
from cislens.genome.reference import Genome

FILES = [
    "background.parquet", "doctor.json", "left_out.tsv", "manifest.json", "summary.json",
    "tracks.tsv", "variants.parquet", "variants.vcf.gz", "variants.vcf.gz.tbi",
]  # fmt: skip


@pytest.fixture(autouse=True)
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "_LARGEST_PART", 20)
    monkeypatch.setattr(parts, "_SMALLEST_PART", 20)


@pytest.fixture(scope="module")
def request_(toy_model: Path, toy_vcf: Path, toy_genome: Genome) -> Request:
    return Request(toy_model, toy_vcf, toy_genome, Scoring(device="cpu"), background=40)


@pytest.fixture(scope="module")
def scored(request_: Request, tmp_path_factory: pytest.TempPathFactory) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parts, "_LARGEST_PART", 20)
        patch.setattr(parts, "_SMALLEST_PART", 20)
        out = tmp_path_factory.mktemp("scored") / "out"
        run_variants(request_, out)
    return out


def digests(out: Path) -> dict[str, str]:
    return {p.relative_to(out).as_posix(): file_digest(p) for p in out.rglob("*") if p.is_file()}


def column(table: pl.DataFrame, name: str) -> np.ndarray:
    return table[name].to_numpy()


def test_the_folder_holds_what_is_promised(scored: Path) -> None:
    assert sorted(p.name for p in scored.iterdir()) == FILES
    summary = json.loads((scored / "summary.json").read_text())
    table = pl.read_parquet(scored / "variants.parquet")
    # 60 records: 12 of each kind of 1, 2, 1, 3 (one symbolic) alleles; of the fifth kind every
    # second has a star beside its substitution.
    assert summary["variants"] == table.height == 12 * (1 + 2 + 1 + 2 + 1)
    assert summary["left_out"] == {"star": 6, "symbolic": 12}
    assert summary["renamed"] == {"1": "chr1", "2": "chr2"}
    assert list(summary["columns"]) == table.columns
    assert all(meaning for meaning in summary["columns"].values())
    assert '"' not in (scored / "tracks.tsv").read_text()
    assert pl.read_csv(scored / "tracks.tsv", separator="\t")["id"].to_list() == ["a", "b", "c,d"]


def test_scores_are_those_of_the_function_in_the_order_of_the_source(
    scored: Path, request_: Request
) -> None:
    table = pl.read_parquet(scored / "variants.parquet")
    assert table.select("source_row", "allele").equals(
        table.select("source_row", "allele").sort("source_row", "allele")
    )
    expected = score_variants(request_.model, request_.genome, table, device="cpu")
    for name, values in {**expected.by_track, **expected.scalars}.items():
        scale = np.abs(values).max()
        np.testing.assert_allclose(column(table, name), values, atol=1e-4 * scale, rtol=0)


def test_percentiles_and_rates_are_of_the_background(scored: Path) -> None:
    table = pl.read_parquet(scored / "variants.parquet")
    null = pl.read_parquet(scored / "background.parquet")
    assert null.height == 40
    for track in range(3):
        background = np.abs(column(null, "log_fold")[:, track])
        scores = np.abs(column(table, "log_fold")[:, track])
        below = (background[None] < scores[:, None]).sum(1)
        np.testing.assert_allclose(column(table, "percentile")[:, track], 100 * below / 40)
        p = (1 + 40 - below) / 41
        np.testing.assert_allclose(column(table, "p")[:, track], p, rtol=1e-6)
        q = false_discovery_control(p)
        np.testing.assert_allclose(column(table, "q")[:, track], q, rtol=1e-6)
    best = column(table, "percentile")
    expected = Null.of(column(null, "log_fold"), [[0, 2], [0, 1, 2]])
    counts = expected.at_least(column(table, "log_fold"))
    np.testing.assert_allclose(
        column(table, "group_percentile_accessibility"), 100 * (40 - counts[:, 3]) / 40
    )
    p = (1 + counts[:, 4]) / 41
    np.testing.assert_allclose(column(table, "any_p"), p, rtol=1e-6)
    np.testing.assert_allclose(column(table, "any_percentile"), 100 * (40 - counts[:, 4]) / 40)
    np.testing.assert_allclose(column(table, "any_q"), false_discovery_control(p), rtol=1e-6)
    np.testing.assert_array_equal(column(table, "top_1_percentile"), best.max(1))
    assert (column(table, "top_2_percentile") <= column(table, "top_1_percentile")).all()


def test_no_background_variant_is_one_of_the_input(scored: Path) -> None:
    table, null = (pl.read_parquet(scored / f"{n}.parquet") for n in ("variants", "background"))
    assert null.join(table, on=["chrom", "pos"]).is_empty()


def test_without_a_background_there_are_scores_and_tops_only(
    request_: Request, tmp_path: Path
) -> None:
    run_variants(replace(request_, background=0), tmp_path / "out")
    table = pl.read_parquet(tmp_path / "out" / "variants.parquet")
    assert not [name for name in table.columns if "percentile" in name or name in ("p", "q")]
    most = np.abs(column(table, "log_fold")).max(1)
    np.testing.assert_array_equal(np.abs(column(table, "top_1_score")), most)
    assert not (tmp_path / "out" / "background.parquet").exists()


@pytest.mark.parametrize("calls", [1, 2, 4])
def test_killed_and_started_again_gives_the_same_bytes(
    request_: Request, scored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: int
) -> None:
    original, done = VariantScorer.score, 0

    def score(self: VariantScorer, variants: pl.DataFrame, show: bool = False) -> VariantScores:
        nonlocal done
        done += 1
        if done == calls:
            raise KeyboardInterrupt
        return original(self, variants, show)

    with monkeypatch.context() as patch:
        patch.setattr(VariantScorer, "score", score)
        with pytest.raises(KeyboardInterrupt):
            run_variants(request_, tmp_path / "out")
    assert not (tmp_path / "out" / "variants.parquet").exists()
    (tmp_path / "out" / ".left_out.tsv.1.2.partial").write_text("half")  # of one that was killed
    done = -1000
    with monkeypatch.context() as patch:
        patch.setattr(VariantScorer, "score", score)
        run_variants(request_, tmp_path / "out")
    # 2 parts of the background and 5 of the input; those that were done are not again.
    assert done + 1000 == {1: 7, 2: 6, 4: 4}[calls]
    assert digests(tmp_path / "out") == digests(scored)


def test_killed_while_the_tables_are_written_gives_the_same_bytes(
    request_: Request, scored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    for name in ("write_annotated", "join_parts"):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, killed)
            with pytest.raises(KeyboardInterrupt):
                run_variants(request_, tmp_path / "out")
    run_variants(request_, tmp_path / "out")
    assert digests(tmp_path / "out") == digests(scored)


def test_killed_before_the_parts_were_cleared_clears_them_when_started_again(
    request_: Request, scored: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(module.shutil, "rmtree", killed)
        with pytest.raises(KeyboardInterrupt):
            run_variants(request_, tmp_path / "out")
    assert (tmp_path / "out" / "summary.json").exists() and (tmp_path / "out" / "parts").exists()
    run_variants(request_, tmp_path / "out")
    assert digests(tmp_path / "out") == digests(scored)


def test_effects_at_rounding_are_warned_of(
    request_: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    original = VariantScorer.score

    def score(self: VariantScorer, variants: pl.DataFrame, show: bool = False) -> VariantScores:
        found = original(self, variants, show)
        changed = np.outer(np.sin(variants["pos"]), factors).astype(np.float32)
        return replace(found, by_track={**found.by_track, "log_fold": changed})

    monkeypatch.setattr(VariantScorer, "score", score)
    factors = [1e-5, 1e-2, 1]
    assert run_variants(request_, tmp_path / "well")["warning"] == ""
    assert "mean nothing" not in caplog.text
    factors = [1e-7, 1e-2, 0]
    summary = run_variants(request_, tmp_path / "out")
    assert "change log_fold of 2 of 3 tracks by less than 1e-06" in summary["warning"]
    assert summary["warning"] in caplog.text


def test_names_of_another_species_are_refused_and_listed(
    request_: Request, toy_vcf: Path, tmp_path: Path
) -> None:
    lines = toy_vcf.read_text().splitlines()
    bad = tmp_path / "bad.vcf"
    bad.write_text("\n".join(f"9{line[1:]}" if line[0] != "#" else line for line in lines) + "\n")
    given = replace(request_, variants=bad)
    for keep_going in (False, True):
        with pytest.raises(CislensError, match=r"no chromosome of .* is in the genome") as refused:
            run_variants(replace(given, keep_going=keep_going), tmp_path / "out")
        assert "--keep-going" not in str(refused.value)
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["doctor.json", "left_out.tsv"]
    listed = pl.read_csv(tmp_path / "out" / "left_out.tsv", separator="\t")
    assert listed["chrom"].cast(pl.String).unique().to_list() == ["9"]
    assert listed.height == 102
    report = json.loads((tmp_path / "out" / "doctor.json").read_text())
    assert report["left_out"]["unknown_chromosome"] == 84
    assert "is in the genome" in report["guess"]


@pytest.mark.parametrize(("wrong", "hint"), [(True, False), (False, True)])
def test_keep_going_is_advised_where_it_applies(
    request_: Request, tmp_path: Path, wrong: bool, hint: bool
) -> None:
    """One allele with a wrong ref leaves nothing; one under a wrong header may be scored."""
    ref = decode(request_.genome.fetch("chr1", 600, 601))
    other = "ACGT"[("ACGT".index(ref) + 2) % 4]
    path = tmp_path / "one.vcf"
    path.write_text(
        f"##fileformat=VCFv4.2\n##contig=<ID=1,length={40000 if wrong else 50000}>\n"
        f"#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
        f"1\t601\t.\t{other if wrong else ref}\t{ref if wrong else other}\t.\t.\t.\n"
    )
    with pytest.raises(CislensError, match="1 allele ") as refused:
        run_variants(replace(request_, variants=path), tmp_path / "out")
    assert ("--keep-going" in str(refused.value)) is hint
    assert ("left_out.tsv" in str(refused.value)) is wrong
    if hint:
        given = replace(request_, variants=path, keep_going=True)
        assert run_variants(given, tmp_path / "out")["variants"] == 1


def test_a_finished_run_is_answered_and_another_refused(
    request_: Request, scored: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = digests(scored)
    monkeypatch.setattr(VariantScorer, "score", None)
    assert run_variants(request_, scored)["variants"] == 84
    with pytest.raises(CislensError, match=r"scored otherwise \(--seed differ"):
        run_variants(replace(request_, seed=1), scored)
    with pytest.raises(CislensError, match=r"scored otherwise \(--average, --center differ"):
        run_variants(
            replace(request_, scoring=replace(request_.scoring, average="none", center=64)), scored
        )
    assert digests(scored) == before


def test_a_folder_of_something_else_is_left_alone(request_: Request, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"format": "another"}')
    with pytest.raises(CislensError, match="something else than scored variants"):
        run_variants(request_, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["manifest.json"]


def test_an_input_beside_the_results_is_not_overwritten(
    request_: Request, toy_vcf: Path, tmp_path: Path
) -> None:
    given = tmp_path / "variants.vcf.gz"
    pysam.tabix_compress(str(toy_vcf), str(given))
    before = file_digest(given)
    asked = replace(request_, variants=given)
    for check in (plan_variants, run_variants):
        with pytest.raises(CislensError, match=r"holds a variants\.vcf\.gz that is not of a run"):
            check(asked, tmp_path)
    assert file_digest(given) == before
    assert [path.name for path in tmp_path.iterdir()] == ["variants.vcf.gz"]


def test_a_file_that_is_refused_at_once_leaves_no_folder(
    request_: Request, toy_vcf: Path, tmp_path: Path
) -> None:
    packed = tmp_path / "whole.vcf.gz"
    pysam.tabix_compress(str(toy_vcf), str(packed))
    cut = tmp_path / "cut.vcf.gz"
    cut.write_bytes(packed.read_bytes()[:-60])
    with pytest.raises(CislensError, match="truncated"):
        run_variants(replace(request_, variants=cut), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_bcf_bgzip_table_and_parquet_give_the_same_scores(
    request_: Request, scored: Path, tmp_path: Path, toy_vcf: Path
) -> None:
    expected = pl.read_parquet(scored / "variants.parquet")
    pysam.tabix_compress(str(toy_vcf), str(tmp_path / "a.vcf.gz"))
    bcf = str(tmp_path / "a.bcf")
    with (
        pysam.VariantFile(str(toy_vcf)) as source,
        pysam.VariantFile(bcf, "wb", header=source.header) as copy,
    ):
        for record in source:
            copy.write(record)
    plain = expected.select(CHR="chrom", BP="pos", A2="ref", A1="alt")
    plain.write_csv(tmp_path / "a.tsv", separator="\t")
    plain.write_parquet(tmp_path / "a.parquet")
    columns = {"chrom": "CHR", "pos": "BP", "ref": "A2", "alt": "A1"}
    for name in ("a.vcf.gz", "a.bcf", "a.tsv", "a.parquet"):
        table = name.endswith(("tsv", "parquet"))
        given = replace(request_, variants=tmp_path / name, columns=columns if table else {})
        run_variants(given, tmp_path / name.replace(".", "-"))
        found = pl.read_parquet(tmp_path / name.replace(".", "-") / "variants.parquet")
        unlike = ["given", "source_row", "allele", "id"] if table else []
        assert found.drop(unlike).equals(expected.drop(unlike)), name


def test_a_wrong_reference_is_refused_and_listed_or_left_out(
    request_: Request, toy_vcf: Path, tmp_path: Path
) -> None:
    lines = toy_vcf.read_text().splitlines()
    records = [index for index, line in enumerate(lines) if not line.startswith("#")]
    for index in records[:12]:
        cells = lines[index].split("\t")
        cells[3], cells[4] = cells[4].split(",")[0], cells[3]
        lines[index] = "\t".join(cells)
    bad = tmp_path / "bad.vcf"
    bad.write_text("\n".join(lines) + "\n")
    out = tmp_path / "out"
    given = replace(request_, variants=bad)
    with pytest.raises(CislensError, match="swapped") as refused:
        run_variants(given, out)
    assert "--keep-going" in str(refused.value)
    assert str(out / "left_out.tsv") in str(refused.value)
    assert sorted(p.name for p in out.iterdir()) == ["doctor.json", "left_out.tsv"]
    listed = pl.read_csv(out / "left_out.tsv", separator="\t")
    assert "flipped" in listed["reason"].to_list()
    with pytest.raises(CislensError, match="swapped"):
        plan_variants(given, tmp_path / "none")
    summary = run_variants(replace(given, keep_going=True), out)
    lost = sum(summary["left_out"].values())
    assert summary["variants"] + lost == 102 - 20 + 12  # of 12 records
    with gzip.open(out / "variants.vcf.gz", "rt") as handle:
        first = next(line for line in handle if not line.startswith("#"))
    assert "CISLENS_LEFT_OUT=flipped" in first
    assert "CISLENS_TOP" not in first


def test_only_variants_near_a_gene(request_: Request, toy_genes: Path, tmp_path: Path) -> None:
    near = replace(request_, genes=toy_genes, gene_names=("LEFT1",), background=20)
    summary = run_variants(near, tmp_path / "out")
    table = pl.read_parquet(tmp_path / "out" / "variants.parquet")
    assert table["chrom"].unique().to_list() == ["chr1"]
    # The gene lies at 5,000 to 6,000, and records every 620 bp up to 18,581.
    assert table["pos"].min() == 601
    assert 15_300 < table["pos"].max() <= 16_000
    assert summary["variants"] == table.height
    assert table.filter(pl.col("gene").is_not_null())["gene"].unique().to_list() == ["LEFT1"]
    assert (table.filter(pl.col("gene").is_not_null())["tss_distance"].abs() <= 512).all()
    with gzip.open(tmp_path / "out" / "variants.vcf.gz", "rt") as handle:
        other = [line for line in handle if line.startswith("2\t")]
    assert len(other) == 30
    assert not [line for line in other if "CISLENS_TOP" in line]
    assert all("elsewhere" in line.split("CISLENS_LEFT_OUT=")[1] for line in other)
    assert sum(line.count("symbolic") for line in other) == 6
    assert summary["elsewhere"] == 84 - summary["variants"]
    assert summary["left_out"] == {"star": 6, "symbolic": 12}
    assert plan_variants(near)["elsewhere"] == summary["elsewhere"]
    far = replace(near, gene_names=("RIGHT1",))
    with pytest.raises(CislensError, match=r"none of 84 variants of .* is near the genes"):
        plan_variants(far)


def test_a_gene_that_is_not_there_names_the_nearest(request_: Request, toy_genes: Path) -> None:
    with pytest.raises(CislensError, match=r"no gene 'rigt1'. Did you mean RIGHT1"):
        plan_variants(replace(request_, genes=toy_genes, gene_names=("rigt1",)))
    with pytest.raises(CislensError, match="--gene needs --genes"):
        replace(request_, gene_names=("RIGHT1",))


def test_a_plan_checks_and_writes_nothing(request_: Request, tmp_path: Path) -> None:
    plan = plan_variants(request_, tmp_path / "out")
    assert plan["variants"] == 84
    assert plan["parts"] == 5
    assert plan["tracks"] == ["a", "b", "c,d"]
    first = request_.genome.fetch("chr1", 590, 611)
    assert len(plan["first_bases"]) == len(first) == 21
    assert plan["first_variant"].startswith("1:601:")
    assert not (tmp_path / "out").exists()
    assert plan["calibrated"][0] == "log_fold"
    assert plan_variants(replace(request_, background=0))["calibrated"] == []
    with pytest.raises(CislensError, match="GPU"):
        plan_variants(replace(request_, scoring=Scoring(device="cuda:99")))


def test_no_space_says_how_to_go_on(
    request_: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(module, "join_parts", full)
        with pytest.raises(CislensError, match="no space is left"):
            run_variants(request_, tmp_path / "out")
    assert len(list((tmp_path / "out" / "parts").glob("variants-*.parquet"))) == 5


def test_memory_and_work_do_not_grow_with_the_variants(
    request_: Request, toy_genome: Genome, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arrays of 500 and of 2,500 variants at their peak, the model's own left out."""

    def score(self: VariantScorer, variants: pl.DataFrame, show: bool = False) -> VariantScores:
        rng = np.random.default_rng(variants["pos"][0])
        shape = (variants.height, 3)
        scores = {name: rng.normal(size=shape).astype(np.float32) for name in self.names_by_track}
        scalars = {name: np.ones(shape[0], np.float32) for name in self.scalars}
        return VariantScores(variants, self.tracks, scores, scalars)

    def source(count: int) -> Iterator[tuple[int, str, str]]:
        bases = toy_genome.chromosome("chr1")
        for place in range(count):
            ref = "ACGT"[bases[300 + place // 2]]
            yield 301 + place // 2, ref, [b for b in "ACGT" if b != ref][place % 2]

    monkeypatch.setattr(VariantScorer, "score", score)
    monkeypatch.setattr(parts, "_LARGEST_PART", 125)
    monkeypatch.setattr("cislens.effects.variants.intake._ROWS_AT_ONCE", 125)
    peaks = {}
    for count in (200, 500, 2_500):  # the first warms caches
        frame = pl.DataFrame(list(source(count)), schema=["pos", "ref", "alt"], orient="row")
        path = tmp_path / f"{count}.tsv"
        frame.with_columns(chrom=pl.lit("chr1")).write_csv(path, separator="\t")
        tracemalloc.start()
        run_variants(replace(request_, variants=path, background=20), tmp_path / f"out{count}")
        peaks[count] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert pl.read_parquet(tmp_path / f"out{count}" / "variants.parquet").height == count
    # The doctor's 8 bytes a variant, sorted in a copy, are 40 kB of 2,500.
    assert peaks[2_500] < peaks[500] + 100_000
