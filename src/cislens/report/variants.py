"""A folder of scored variants as a page: which stand out, and how all of them are spread."""

from pathlib import Path
from typing import Any

import polars as pl

from cislens.effects.variants.request import MANIFEST
from cislens.effects.variants.run import SUMMARY
from cislens.errors import CislensError
from cislens.files import read_json, require_file
from cislens.report.evidence import Section
from cislens.report.figures.histograms import histogram
from cislens.report.manifest import Table, groups
from cislens.report.panels import Panel
from cislens.report.templates import render
from cislens.report.words import counted, general, grouped, number

_MOST = 200
_RATE = 0.05
_TOP = (
    "The variants that stand out most among substitutions of the background, first the least "
    "p-value. Percentile, p and q are of the score that stands out; q is the share of false "
    "discoveries. How unusual an effect is says nothing of whether it matters to an organism."
)
_SPREAD = (
    "The dotted line is where p-values would lie if the variants were drawn as the background "
    "was. A rise at the left is more unusual variants than chance gives."
)
_LEFT = "Alleles that could not be scored, by reason; left_out.tsv names each."
_SHOWN = {
    "any_p": "p", "any_q": "q", "any_percentile": "Percentile", "top_1_track": "Top track",
    "top_1_score": "Its score", "llr": "LLR", "llr_p": "p of LLR", "llr_q": "q of LLR",
    "gene": "Gene", "tss_distance": "To TSS (bp)",
}  # fmt: skip


def render_variants(folder: Path) -> str:
    """The HTML text of the page of a folder that `cislens variants` wrote.

    Raises:
        CislensError: if the run is not finished, or its table is damaged.
    """
    if not (folder / SUMMARY).exists():
        raise CislensError(f"{folder} holds an unfinished run; run `cislens variants` to its end.")
    summary = read_json(folder / SUMMARY, "summary of the variants")
    manifest = read_json(folder / MANIFEST, "manifest of the variants")
    table = pl.scan_parquet(require_file(folder / "variants.parquet", "table of the variants"))
    rank = next((name for name in ("any_p", "llr_p") if name in table.collect_schema()), None)
    parts = [
        Section("unusual", "Most unusual variants", _TOP, "No variant was scored.",
                tables=_unusual(table, rank)),
        Section("spread", "All variants", _SPREAD,
                "Without a background there are no p-values.", _spread(table, rank)),
        Section("left-out", "Left out", _LEFT, "Every allele was scored.",
                tables=_counts(summary["left_out"])),
        Section("columns", "Columns", "Of variants.parquet.", "The table has no columns.",
                tables=[Table("Columns", ("Column", "Meaning"), [*summary["columns"].items()])]),
    ]  # fmt: skip
    return render(
        "results.html.j2",
        title="Scored variants",
        headline=_headline(table, rank, summary),
        facts=_facts(summary, manifest),
        sections=[*((part.key, part.title) for part in parts), ("manifest", "Manifest")],
        skip="variants",
        parts=parts,
        manifest=groups(manifest),
    )


def _headline(table: pl.LazyFrame, rank: str | None, summary: dict[str, Any]) -> list[str]:
    scored = counted(summary["variants"], "variant")
    sentences = [f"{scored} scored; without a background none can be called unusual."]
    if rank is not None:
        rate = rank.replace("_p", "_q")
        hits = table.filter(pl.col(rate) < _RATE).select(pl.len()).collect().item()
        sentences = [f"{grouped(hits)} of {scored} stand out at a false discovery rate of 5 %."]
    left = sum(summary["left_out"].values())
    if left:
        sentences.append(f"{counted(left, 'allele')} left out, by reasons that are listed below.")
    sentences += [text for text in (summary.get("warning"), summary.get("guess")) if text]
    return sentences


def _facts(summary: dict[str, Any], manifest: dict[str, Any]) -> list[tuple[str, str]]:
    settings = manifest["settings"]
    facts = [("Variants", grouped(summary["variants"])), ("Species", str(settings["species"]))]
    if summary.get("background"):
        facts.append(("Background", grouped(summary["background"]["found"])))
    return [*facts, ("Averaged over", str(settings["average"])), ("Seed", str(settings["seed"]))]


def _unusual(table: pl.LazyFrame, rank: str | None) -> list[Table]:
    names = table.collect_schema().names()
    shown = [name for name in _SHOWN if name in names]
    ordered = table if rank is None else table.sort(rank, nulls_last=True, maintain_order=True)
    rows = ordered.select("chrom", "pos", "ref", "alt", "id", *shown).head(_MOST).collect()
    if rows.is_empty():
        return []
    listed = [
        (f"{row['chrom']}:{row['pos']} {row['ref']}>{row['alt']}", row["id"] or "",
         *(_cell(row[name]) for name in shown))
        for row in rows.iter_rows(named=True)
    ]  # fmt: skip
    columns = ("Variant", "Name", *(_SHOWN[name] for name in shown))
    return [Table(f"First {grouped(len(rows))}", columns, listed)]


def _cell(value: object) -> str:
    if isinstance(value, float):
        return general(value)
    return number(None) if value is None else str(value)


def _spread(table: pl.LazyFrame, rank: str | None) -> list[Panel]:
    if rank is None:
        return []
    names = [name for name in table.collect_schema().names() if name.endswith("_p")]
    values = table.select(names).collect()
    of = {"any_p": "of the best track"}
    return [
        Panel(f"p {of.get(name, 'of ' + name.removesuffix('_p'))}",
              counted(int(values[name].is_not_null().sum()), "variant"),
              histogram(values[name].to_numpy(), "p-value", even=True))
        for name in names
    ]  # fmt: skip


def _counts(left_out: dict[str, int]) -> list[Table]:
    rows = [(reason, grouped(count)) for reason, count in left_out.items()]
    return [Table("Left out", ("Reason", "Alleles"), rows)] if rows else []
