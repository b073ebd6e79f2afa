"""A run over a file of variants: examined, scored part by part, calibrated, written.

    OUT/manifest.json     what is scored by what: settings and digests
    OUT/doctor.json, left_out.tsv
    OUT/background.parquet   background variants and their scores
    OUT/parts/            variants and scores, some of them each, until all are there
    OUT/variants.parquet, tracks.tsv, variants.vcf.gz[.tbi]
    OUT/summary.json      written last

Every file is a function of the input and the settings, so that a run that was killed and is
started again gives the same bytes.
"""

import errno
import json
import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from cislens.effects.devices import resolve_device
from cislens.effects.variants.annotated import (
    ELSEWHERE,
    field_values,
    info_fields,
    write_annotated,
    write_own,
)
from cislens.effects.variants.background import draw_background
from cislens.effects.variants.calibration import Null, RankCounts
from cislens.effects.variants.intake import (
    NEAR,
    Inspection,
    Intake,
    genes_of,
    inspect,
    left_out_reasons,
    named_genes,
    surroundings,
)
from cislens.effects.variants.output import (
    AT_LEAST,
    Columns,
    counts_of,
    describe,
    finished,
    join_parts,
    read_parts,
    rounding_warning,
    write_tracks,
)
from cislens.effects.variants.parts import (
    Scored,
    aside,
    kept_aside,
    missing,
    part_size,
    scores_of,
    write_table,
)
from cislens.effects.variants.request import MANIFEST, Request, manifest_of, require_own
from cislens.effects.variants.scores import VariantScorer
from cislens.engines import HERE, Engine, Reopened
from cislens.errors import CislensError
from cislens.files import claimed, clear_partial, read_json, read_parquet, write_atomic
from cislens.genome.codes import decode
from cislens.progress import track
from cislens.signal.datacard import FILE_NAME

logger = logging.getLogger("cislens")

SUMMARY = "summary.json"
VARIANTS = "variants"
_BACKGROUND, _PART = "scores of the background", "scores of a part"


def run_variants(request: Request, out: Path, engine: Engine = HERE) -> dict[str, Any]:
    """Score a file of variants into a folder; goes on where an earlier run of it stopped.

    Args:
        engine: who scores; the bytes do not depend on it.

    Returns:
        The summary: counts, files, and what each column of the table means.

    Raises:
        CislensError: for input that is refused, or a folder that holds another run.
    """
    prepared = _Prepared.of(request)
    manifest = prepared.manifest(request)
    require_own(out, manifest)
    if (out / SUMMARY).exists():
        logger.info("%s is already scored", out)
        if (out / "parts").exists():  # killed before it was cleared
            shutil.rmtree(out / "parts")
        return read_json(out / SUMMARY, "summary of the variants")
    parts = out / "parts"
    with claimed(parts, "scoring variants into"):
        clear_partial(out)
        try:
            inspection = inspect(prepared.intake, out, request.keep_going)
            write_atomic(out / MANIFEST, json.dumps(manifest, indent=2) + "\n")
            null, background = _score(request, prepared, inspection, manifest, out, engine)
            warning = "" if null is None else rounding_warning(null, prepared.columns)
            if warning:
                logger.warning(warning)
            summary = _assemble(request, prepared, inspection, null, out)
            summary |= {"background": background, "warning": warning}
            write_atomic(out / SUMMARY, json.dumps(summary, indent=2) + "\n")
        except (CislensError, OSError) as error:
            if not any(parts.glob("*.parquet")):
                shutil.rmtree(parts)
                if not any(out.iterdir()):
                    out.rmdir()
            if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
                raise CislensError(
                    f"no space is left for {out}; make room and run the same command again, it "
                    "goes on from there."
                ) from error
            raise
        shutil.rmtree(parts)
    return summary


def plan_variants(request: Request, out: Path | None = None) -> dict[str, Any]:
    """Check everything that a run needs and say what it would do; writes nothing.

    Raises:
        CislensError: as `run_variants`.
    """
    prepared = _Prepared.of(request)
    if out is not None:
        require_own(out, prepared.manifest(request))
    found = inspect(prepared.intake, None, request.keep_going)
    scorer, columns, report = prepared.scorer, prepared.columns, found.report
    first = found.first.row(0, named=True)
    start = first["pos"] - 11
    wide = len(columns.track_ids)
    return {
        "variants": found.variants,
        "left_out": report.left_out,
        "elsewhere": found.elsewhere,
        "guess": report.guess,
        "renamed": report.renamed,
        "model": str(request.model),
        "species": scorer.species,
        "scores": list(scorer.names),
        "tracks": columns.track_ids,
        "calibrated": columns.names if request.background else [],
        "background": request.background,
        "window_bp": scorer.layout.length,
        "passes_at_most": 2 * scorer.averaging.views * (found.variants + request.background),
        "parts": -(-found.variants // part_size(columns)),
        "parts_done": 0 if out is None else len(list(out.glob(f"parts/{VARIANTS}-*.parquet"))),
        "table_bytes": 4 * found.variants * (wide * (len(scorer.names_by_track) + 3) + 30),
        "device": str(resolve_device(request.scoring.device)),
        "first_variant": first["given"],
        "first_bases": decode(request.genome.fetch(first["chrom"], start, start + 21)),
    }


@dataclass(frozen=True)
class _Prepared:
    opened: Reopened[VariantScorer]
    intake: Intake
    columns: Columns
    in_genes: bool

    @classmethod
    def of(cls, request: Request) -> "_Prepared":
        genome, path = request.genome, request.genes
        resolve_device(request.scoring.device)
        every = named = only = None
        if path is not None:
            every = genes_of(path, genome)
            named = named_genes(every, request.gene_names, path) if request.gene_names else every
        with_tracks = (request.folder / FILE_NAME).exists()
        scoring = replace(request.scoring, genes=named if with_tracks else None)
        opened = Reopened(VariantScorer, request.model, genome, scoring)
        scorer = opened.thing
        if named is not None and request.gene_names:
            reach = max(NEAR, scorer.layout.central * scorer.layout.bin_size // 2)
            only = surroundings(named, reach)
        intake = Intake(request.variants, genome, request.columns, every, only)
        return cls(opened, intake, Columns.of(scorer), scoring.genes is not None)

    @property
    def scorer(self) -> VariantScorer:
        return self.opened.thing

    def manifest(self, request: Request) -> dict[str, Any]:
        return manifest_of(request, self.scorer.species, self.scorer.batch_size)


def _score(
    request: Request,
    prepared: _Prepared,
    inspection: Inspection,
    manifest: dict[str, Any],
    out: Path,
    engine: Engine,
) -> tuple[Null | None, dict[str, int]]:
    """Score the background and all parts that are not there yet."""
    columns, size = prepared.columns, part_size(prepared.columns)
    null, drawn = None, {"wanted": 0, "found": 0, "less_alike": 0}
    parts = out / "parts"
    job = Scored(prepared.opened, manifest["model"], request.folder)
    gpu = resolve_device(request.scoring.device).type == "cuda"
    try:
        if request.background:
            background = draw_background(inspection.census, request.background, request.seed)
            rows = background.variants
            drawn = {
                "wanted": background.wanted, "found": rows.height,
                "less_alike": background.relaxed,
            }  # fmt: skip
            path = out / "background.parquet"
            if not path.exists():
                pieces = (rows[first : first + size] for first in range(0, rows.height, size))
                given = kept_aside(parts, "background", pieces, -(-rows.height // size))
                engine.run(job, missing(given), "score background", gpu=gpu)
                write_table(pl.concat(read_parts([scores_of(each) for each in given])), path)
            null = columns.null(read_parquet(path, _BACKGROUND))
            job = replace(job, background=path)
        total = -(-inspection.variants // size)
        given = kept_aside(parts, VARIANTS, prepared.intake.parts(size), total)
        engine.run(job, missing(given), "score variants", gpu=gpu)
    finally:
        prepared.scorer.close()
    return null, drawn


def _assemble(
    request: Request, prepared: _Prepared, inspection: Inspection, null: Null | None, out: Path
) -> dict[str, Any]:
    """Rates of all parts together, then the tables and the VCF."""
    columns = prepared.columns
    total = -(-inspection.variants // part_size(columns))
    parts = [scores_of(each) for each in aside(out / "parts", VARIANTS, total)]
    q_table = None
    if null is not None:
        ranks = RankCounts(null.size, null.width)
        for path in parts:
            ranks.add(counts_of(read_parquet(path, _PART, [AT_LEAST])))
        q_table = ranks.q_table()
    complete = [path.with_name(f"complete-{path.name}") for path in parts]
    for path, place in zip(parts, track(complete, "rates"), strict=True):
        write_table(finished(read_parquet(path, _PART), columns, null, q_table), place)
    join_parts(complete, out / "variants.parquet")
    files = ["doctor.json", "left_out.tsv", "variants.parquet", "variants.vcf.gz"]
    files += ["background.parquet"] if null is not None else []
    if columns.tracks is not None:
        write_tracks(columns.tracks, out / "tracks.tsv")
        files.append("tracks.tsv")
    indexed = _write_vcf(request, prepared, null is not None, complete, out)
    files += [path.name for path in sorted(out.glob("variants.vcf.gz.*"))]
    names = list(pl.read_parquet_schema(complete[0]))
    return {
        "variants": inspection.variants,
        "left_out": inspection.report.left_out,
        "elsewhere": inspection.elsewhere,
        "renamed": inspection.report.renamed,
        "guess": inspection.report.guess,
        "indexed": indexed,
        "files": sorted(files),
        "columns": describe(names, columns, null.size if null else 0),
    }  # fmt: skip


def _write_vcf(
    request: Request, prepared: _Prepared, calibrated: bool, complete: list[Path], out: Path
) -> bool:
    columns, genes = prepared.columns, prepared.in_genes
    fields = info_fields(columns, calibrated, genes)
    place = out / "variants.vcf.gz"

    def scored() -> Iterator[tuple[tuple[int, int], dict[str, str]]]:
        for table in track(read_parts(complete), "annotate", len(complete)):
            yield from field_values(table, columns, calibrated, genes)

    def own() -> Iterator[tuple[dict[str, Any], dict[str, str]]]:
        for table in track(read_parts(complete), "annotate", len(complete)):
            rows = table.select("chrom", "pos", "ref", "alt", "id").iter_rows(named=True)
            values = field_values(table, columns, calibrated, genes)
            for row, (_, found) in zip(rows, values, strict=True):
                yield row, found

    if _is_vcf(request.variants):
        reasons = left_out_reasons(out)
        rest = ELSEWHERE if request.gene_names else ""
        return write_annotated(place, request.variants, fields, scored(), reasons, rest)
    return write_own(place, request.genome, fields, own())


def _is_vcf(path: Path) -> bool:
    name = path.name.lower().removesuffix(".gz").removesuffix(".bgz")
    return name.endswith((".vcf", ".bcf"))
