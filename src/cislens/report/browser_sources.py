"""What folders of results, and files of tracks and genes, have to show in a browser."""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl

from cislens.errors import CislensError
from cislens.files import manifest_format, read_json, read_parquet, require_file
from cislens.genome.chromosomes import match_names
from cislens.genome.intervals import read_intervals
from cislens.genome.reference import Genome
from cislens.report.browser import GAIN, LOSS, MOST_FEATURES, Place
from cislens.report.browser_files import SignalFile, Sources, renamed
from cislens.signal.bigwig import open_bigwig, read_windows, summarize
from cislens.signal.tracks import read_tracks

PREDICTED, ATTRIBUTED, SCORED = "cislens predictions", "cislens attributions", "cislens-variants"
_POSITION = re.compile(r"([^:\s]+):([\d,]+)-([\d,]+)")
_BIGWIG = {".bw", ".bigwig"}
# Of each kind of result, how many places are shown unless some are asked for, and how wide.
_PLACES, _WIDTHS = 8, {PREDICTED: 32_768, ATTRIBUTED: 400, SCORED: 2_000}
_SCANNED = 1 << 20


def find_sources(
    folders: Sequence[Path],
    genome: Genome,
    genes: Path | None = None,
    tracks: Sequence[Path] = (),
    at: Sequence[str] = (),
) -> Sources:
    """What folders of `predict`, `attribute` and `variants`, and given files, have to show.

    Args:
        genes: GTF, GFF3 or BED.
        tracks: measured bigWigs: files, folders of them, or track tables. One whose name, or
            whose file's name, is that of a predicted track shares its scale.
        at: positions chrom:start-end, 1-based, or BED files. Without any, what the folders are
            about: attributed regions, the most unusual variants, where predictions begin.

    Raises:
        CislensError: if a folder is none of those or of another genome, or a place is not on it.
    """
    signals: list[SignalFile] = []
    places: list[Place] = []
    variants: pl.DataFrame | None = None
    for folder in folders:
        kind = require_kind(folder)
        _require_genome(folder, genome)
        if kind == PREDICTED:
            signals += _predicted(folder)
        elif kind == ATTRIBUTED:
            name = "contribution" if len(folders) == 1 else f"contribution ({folder.name})"
            path = folder / "contributions.bw"
            signals.append(SignalFile(path, name, "attribution", str(path)))
        else:
            variants = _variants(folder)
        if not at:
            places += _places_of(folder, kind, genome, variants)
    signals = _with_measured(signals, tracks)
    asked = [place for text in at for place in _asked(text, genome)]
    return Sources(genome, signals, (asked or places)[: None if at else _PLACES], genes, variants)


def require_kind(folder: Path) -> str:
    """What kind of results a folder holds.

    Raises:
        CislensError: if the browser shows none of that kind.
    """
    kind = manifest_format(require_file(folder, "folder of results"))
    if kind not in _WIDTHS:
        raise CislensError(
            f"{folder} holds {kind or 'no manifest of results'}, expected a folder of "
            "`cislens predict`, `attribute` or `variants`; for a bench, a demo or a run give that "
            "folder alone."
        )
    return kind


def _require_genome(folder: Path, genome: Genome) -> None:
    settings = read_json(folder / "manifest.json", "manifest").get("settings", {})
    made_on = settings.get("genome") if isinstance(settings, dict) else None
    if isinstance(made_on, str) and len(made_on) == 64 and made_on != genome.digest:
        raise CislensError(
            f"{folder} was made on another genome than {genome.path} (sha256 {made_on[:12]}..., "
            f"found {genome.digest[:12]}...); give --genome the file it was made on."
        )


def _predicted(folder: Path) -> list[SignalFile]:
    table = read_tracks(folder / "tracks.tsv").frame
    step = int(read_json(folder / "manifest.json", "manifest").get("bin_size", 1))
    found = []
    for row in table.iter_rows(named=True):
        path = folder / Path(str(row["file"])).name
        if path.exists():
            name = f"predicted {row['description'] or row['id']}"
            found.append(SignalFile(path, name, "predicted", row["id"], step))
    if not found:
        raise CislensError(
            f"{folder} holds no bigWig of its tracks; predict again with --format bigwig."
        )
    return found


def _with_measured(signals: list[SignalFile], given: Sequence[Path]) -> list[SignalFile]:
    """Measured tracks, each before the predicted one of its name; attributions last."""
    predicted = {file.scale: file for file in signals if file.kind == "predicted"}
    learned: dict[str, tuple[str, bool]] = {}
    for folder in dict.fromkeys(file.path.parent for file in predicted.values()):
        learned |= _learned_from(folder)
    measured = []
    for path in given:
        for file, name, ids in _listed(path):
            known = (*ids, learned.get(file.name, ("", False))[0])
            twin = next((predicted[one] for one in known if one in predicted), None)
            # As the track was read to learn from it; by itself, as its file says.
            zero = summarize(file).leaves_zeros_out
            if twin is None:
                said, scale, step = name, str(file), 1
            else:
                said, scale, step = twin.name.removeprefix("predicted "), twin.scale, twin.step
                zero = dict(learned.values()).get(twin.scale, zero)
            uncovered = 0.0 if zero else np.nan
            measured.append(
                SignalFile(file, f"measured {said}", "measured", scale, step, uncovered)
            )
    found = [file for file in measured if file.scale not in predicted]
    for twin in predicted.values():
        found += [file for file in measured if file.scale == twin.scale]
        found.append(twin)
    return found + [file for file in signals if file.kind == "attribution"]


def _learned_from(folder: Path) -> dict[str, tuple[str, bool]]:
    """Of each measured file that a prediction was learned from, track and whether a base without
    a value counted 0."""
    table = pl.read_csv(folder / "tracks.tsv", separator="\t", infer_schema=False)
    if not {"measured", "uncovered"} <= set(table.columns):
        return {}
    rows = table.select("measured", "id", "uncovered").iter_rows()
    return {Path(str(name)).name: (str(track), kind == "zero") for name, track, kind in rows}


def _listed(path: Path) -> Iterator[tuple[Path, str, tuple[str, ...]]]:
    """File, name, and what else a bigWig may be known as."""
    require_file(path, "track file, folder or table")
    if path.is_dir():
        files = sorted(file for file in path.iterdir() if file.suffix.lower() in _BIGWIG)
        if not files:
            raise CislensError(f"{path} holds no bigWig (.bw, .bigWig); give --tracks another one.")
        for file in files:
            yield file, file.stem, (file.stem,)
    elif path.suffix.lower() in _BIGWIG:
        yield path, path.stem, (path.stem,)
    else:
        for row in read_tracks(path, species="").rows():
            yield Path(row.file), row.description or row.id, (row.id,)


def _variants(folder: Path) -> pl.DataFrame:
    """Variants as intervals, the most unusual ones if there are many, colored by their score.

    The score is that of the track that stands out most, or else the first number of the table.
    """
    table = read_parquet(folder / "variants.parquet", "scored variants")
    numbers = [name for name, kind in table.schema.items() if kind in (pl.Float32, pl.Float64)]
    score = next((name for name in ("top_1_score", "llr", *numbers) if name in table.columns), None)
    if score is None:
        raise CislensError(
            f"{folder / 'variants.parquet'} has no column of scores; score it again."
        )
    start = pl.col("pos") - 1
    shown = table.select(
        "chrom",
        start=start,
        end=start + pl.col("ref").str.len_chars().cast(pl.Int64).clip(1),
        name=pl.format("{} {}>{}", pl.coalesce(_named("id"), pl.lit("")), "ref", "alt")
        .str.strip_chars(),
        score=pl.col(score).cast(pl.Float64).fill_nan(None),
        track=pl.col("top_1_track") if "top_1_track" in table.columns else pl.lit(score),
    )  # fmt: skip
    shown = shown.sort(pl.col("score").abs(), descending=True, nulls_last=True)
    shown = shown.head(MOST_FEATURES // 2)
    top = float(shown["score"].abs().max() or 0) or 1.0  # type: ignore[arg-type]
    colors = [_score_color(value, top) for value in shown["score"]]
    return shown.with_columns(pl.Series("color", colors, dtype=pl.String))


def _named(column: str) -> pl.Expr:
    return pl.when(pl.col(column) != ".").then(pl.col(column))


def _score_color(value: float | None, top: float) -> str:
    """From gray at 0 to blue where the alternate allele gains, to red where it loses."""
    share = min(1.0, abs(value or 0.0) / top) ** 0.5
    ends = [int((GAIN if (value or 0) > 0 else LOSS)[i : i + 2], 16) for i in (1, 3, 5)]
    return "rgb({},{},{})".format(*(round(200 + (end - 200) * share) for end in ends))


def _places_of(
    folder: Path, kind: str, genome: Genome, variants: pl.DataFrame | None
) -> list[Place]:
    width = _WIDTHS[kind]
    if kind == PREDICTED:
        return _covered(next(iter(_predicted(folder))).path, genome, width)
    if kind == ATTRIBUTED:
        rows = read_intervals(folder / "regions.bed").head(_PLACES)
        return [_around(genome, r["chrom"], r["start"], r["end"], min(width, r["end"] - r["start"]),
                        str(r["name"])) for r in rows.iter_rows(named=True)]  # fmt: skip
    assert variants is not None
    return [
        _around(genome, r["chrom"], r["start"], r["end"], width, f"{r['name']}, {r['score']:.2g}")
        for r in variants.drop_nulls("score").head(_PLACES).iter_rows(named=True)
    ]


def _around(genome: Genome, chrom: str, start: int, end: int, width: int, title: str) -> Place:
    first = max(0, (start + end) // 2 - width // 2)
    return Place(chrom, first, min(genome.size(chrom), first + width), title)


def _covered(path: Path, genome: Genome, width: int) -> list[Place]:
    """Where the first values of a bigWig begin; looked for in each chromosome's beginning."""
    reader = open_bigwig(path)
    for chrom, size in genome.chrom_sizes.items():
        if chrom not in reader.chrom_sizes:
            continue
        for start in range(0, size, _SCANNED):
            values = read_windows(reader, chrom, [start], min(_SCANNED, size - start))[0]
            known = np.flatnonzero(np.isfinite(values))
            if known.size:
                first = start + int(known[0])
                return [Place(chrom, first, min(size, first + width), "predictions begin")]
    return []


def _asked(text: str, genome: Genome) -> list[Place]:
    """Places of chrom:start-end (1-based, inclusive), or of a BED file."""
    found = _POSITION.fullmatch(text.strip())
    if found is None:
        path = require_file(text, "--at is neither chrom:start-end nor a BED file that exists:")
        rows = renamed(read_intervals(path), genome, path)
        names = rows["name"] if "name" in rows.columns else [""] * len(rows)
        spans = rows.select("chrom", "start", "end").rows()
        places = [
            Place(chrom, start, end, str(name))
            for (chrom, start, end), name in zip(spans, names, strict=True)
        ]
    else:
        chrom, first, last = found[1], *(int(found[i].replace(",", "")) for i in (2, 3))
        chrom = match_names([chrom], genome.chrom_sizes, "--at").mapping.get(chrom, chrom)
        places = [Place(chrom, first - 1, last)]
    for place in places:
        if not 0 <= place.start < place.end <= genome.size(place.chrom):
            raise CislensError(
                f"--at {place.chrom}:{place.start + 1}-{place.end}: expected 1 <= start <= end "
                f"<= {genome.size(place.chrom):,}, the length of {place.chrom} in {genome.path}."
            )
    return places
