"""How fast variants are scored: against a loop of passes, and as their number grows.

    python benchmarks/variants.py [--small] [--net space-plus-tiny ...] [--variants 384]
    python benchmarks/variants.py --growth [--most 100000]

The first compares `score_variants` with what is usually written: reference and alternate windows
of each variant in batches, both strands averaged, on the same windows of a fresh net (8 kb, bins
of 128 bp, 8 of them cropped) and consecutive HapMap3 variants of human chromosome 20. Both sides
run side by side on one thread, repeat by repeat, and are charged the processor's time; the ratio
is the median over repeats, and no score of the two may differ by more than 1e-4. `--step` sets how
far windows lie apart.

The second scores 1,000, 10,000 and 100,000 such variants (each site with its three substitutions,
as there are 49,000 sites) by a small net, in parts of 4,096 as the command line does, each number
in a process of its own: variants a second, also of the processor's time where others use it too,
and the process's largest memory.

Needs the development data (CISLENS_DATA).
"""

import argparse
import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import torch

from cislens.effects.track_model import TrackModel
from cislens.effects.variants.scores import Scoring, VariantScorer
from cislens.example import core_data
from cislens.genome.codes import decode, encode, one_hot, reverse_complement
from cislens.genome.reference import Genome
from cislens.models.presets import preset_config
from cislens.models.profile import build_model
from cislens.signal.datacard import DataCard
from cislens.signal.tracks import Track, track_table

NETS = ("space-plus-tiny", "enformer-tiny", "basenji-tiny")
LENGTH, CROP, TRACKS = 8192, 8, 8
NUMBERS = (1_000, 10_000, 100_000)
PART, ALLOWED = 4096, 1e-4


def main() -> None:
    """Print a line per measurement and, as last line, one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true", help="48 variants, one net, one repeat")
    parser.add_argument("--net", nargs="+", default=NETS)
    parser.add_argument("--variants", type=int, default=384)
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--step", type=int, help="bp between windows; the package's choice if none")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--growth", action="store_true")
    parser.add_argument("--most", type=int, default=NUMBERS[-1])
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.small:
        options.net, options.variants, options.repeats = NETS[:1], 48, 1
        options.most = NUMBERS[0]
    torch.set_num_threads(1)
    folder = core_data()
    if folder is None:
        sys.exit("the development data is not here: set CISLENS_DATA to its folder")
    if options.one:
        print(json.dumps(score_many(folder, options.one)))
        return
    if options.growth:
        results = [grown(number) for number in NUMBERS if number <= options.most]
    else:
        results = [compare(folder, net, options) for net in options.net]
    print(json.dumps({"benchmark": "variants", "results": results}))


def human(folder: Path, number: int, every: bool = False) -> tuple[Genome, pl.DataFrame]:
    """The genome, and that many consecutive variants; `every`: all substitutions of a site."""
    place = folder / "human_hg19_chr20_21"
    genome = Genome(place / "hg19_chr20_21.fa.gz")
    path, types = place / "hapmap3_snps.hg19.chr20_21.tsv.gz", {"#CHROM": pl.String}
    sites = (
        pl.read_csv(path, separator="\t", schema_overrides=types)
        .select(chrom="chr" + pl.col("#CHROM"), pos="POS", a1="A1", a2="A2")
        .sort("chrom", "pos")
    )
    bases = genome.windows(sites["chrom"], sites["pos"].to_numpy() - 1, 1)[:, 0]
    sites = sites.with_columns(ref=pl.Series(list(decode(bases))))
    if every:
        others = pl.DataFrame({"alt": list("ACGT")})
        table = sites.join(others, how="cross").filter(pl.col("alt") != pl.col("ref"))
        first = 0
    else:
        alt = pl.when(pl.col("ref") == pl.col("a1")).then(pl.col("a2")).otherwise(pl.col("a1"))
        table = sites.with_columns(alt=alt)
        table = table.filter(pl.any_horizontal(pl.col("ref") == pl.col("a1", "a2")))
        first = len(table) // 3
    return genome, table.select("chrom", "pos", "ref", "alt")[first : first + number]


def fresh(net: str, length: int = LENGTH, crop: int = CROP, **changes: int) -> TrackModel:
    """An untrained net whose rates are of the size of counts."""
    torch.manual_seed(0)
    ids = [f"track{index}" for index in range(TRACKS)]
    model = build_model(preset_config(net, {"human": ids}, crop=crop, **changes)).eval()
    with torch.no_grad():
        for head in model.heads:
            head.weight *= 10
    table = track_table(Track(name, f"{name}.bw", "human") for name in ids)
    return TrackModel(model, DataCard(length, table), net)


def compare(folder: Path, net: str, options: argparse.Namespace) -> dict[str, object]:
    """Ours and the loop on the same windows."""
    genome, variants = human(folder, options.variants)
    model = fresh(net)
    names = ("log_fold", "difference")
    scoring = Scoring(scores=names, step=options.step, batch_size=options.batch_size, device="cpu")
    seconds: dict[str, list[float]] = {"ours": [], "loop": []}
    with VariantScorer(model, genome, scoring) as scorer:
        starts = scorer.layout.starts(variants["pos"].to_numpy() - 1)
        for _ in range(options.repeats):
            begin = time.process_time()
            found = scorer.score(variants)
            seconds["ours"].append(time.process_time() - begin)
            begin = time.process_time()
            expected = loop(model, genome, variants, starts, options.batch_size)
            seconds["loop"].append(time.process_time() - begin)
    difference = max(float(np.abs(found.by_track[k] - expected[k]).max()) for k in names)
    effect = float(np.abs(expected["difference"]).max())
    if difference > ALLOWED:
        sys.exit(f"{net}: scores differ by {difference:.2g}")
    ratio = statistics.median(
        theirs / ours for ours, theirs in zip(seconds["ours"], seconds["loop"], strict=True)
    )
    each = {name: round(statistics.median(values), 2) for name, values in seconds.items()}
    windows = len(set(starts.tolist()))
    print(
        f"{net}: {variants.height} variants in {windows} windows, ours {each['ours']} s, loop "
        f"{each['loop']} s, ratio {ratio:.2f}; largest difference {difference:.1g}, largest "
        f"effect {effect:.3g}"
    )
    return {
        "net": net, "variants": variants.height, "windows": windows, "ratio": round(ratio, 3),
        "seconds": each, "largest_difference": difference, "largest_effect": effect,
    }  # fmt: skip


@torch.inference_mode()
def loop(
    model: TrackModel, genome: Genome, variants: pl.DataFrame, starts: np.ndarray, batch_size: int
) -> dict[str, np.ndarray]:
    """Both alleles of each variant in batches, both strands."""
    sums: tuple[list[np.ndarray], list[np.ndarray]] = ([], [])
    first, alt = variants["pos"].to_numpy() - 1, encode("".join(variants["alt"]))
    for begin in range(0, variants.height, batch_size):
        rows = slice(begin, begin + batch_size)
        reference = genome.windows(variants["chrom"][rows], starts[rows], LENGTH)
        alternate = reference.copy()
        alternate[np.arange(len(reference)), first[rows] - starts[rows]] = alt[rows]
        for codes, kept in zip((reference, alternate), sums, strict=True):
            strands = [
                model.net(torch.from_numpy(one_hot(each)), "human", crop=True).numpy()
                for each in (codes, reverse_complement(codes))
            ]
            kept.append(np.mean(strands, axis=0).sum(2, dtype=np.float64))
    before, after = (np.concatenate(parts) for parts in sums)
    return {"log_fold": np.log1p(after) - np.log1p(before), "difference": after - before}


def grown(number: int) -> dict[str, object]:
    """One number of variants in a process of its own."""
    command = [sys.executable, __file__, "--one", str(number)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    found: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    print(
        f"{number:,} variants: {found['seconds']} s, {found['per_second']} a second, "
        f"{found['per_cpu_second']} a second of one core, "
        f"{found['peak_mib']} MiB at most, {found['before_mib']} before the first"
    )
    return found


def score_many(folder: Path, number: int) -> dict[str, object]:
    """Score in parts that are thrown away."""
    genome, variants = human(folder, number, every=True)
    for chrom in variants["chrom"].unique():
        genome.chromosome(chrom)
    small = fresh("enformer-tiny", length=512, crop=0, dim=32, stem_dim=16, depth=1)
    scoring = Scoring(batch_size=256, device="cpu")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    begin, worked = time.perf_counter(), time.process_time()
    done = 0
    with VariantScorer(small, genome, scoring) as scorer:
        for part in parts_of(variants):
            done += len(scorer.score(part).table())
    seconds, worked = time.perf_counter() - begin, time.process_time() - worked
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    assert done == variants.height
    return {
        "variants": done, "seconds": round(seconds, 1), "per_second": round(done / seconds),
        "per_cpu_second": round(done / worked),
        "before_mib": round(before), "peak_mib": round(peak),
    }  # fmt: skip


def parts_of(variants: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Parts of the size of the command line's."""
    for begin in range(0, variants.height, PART):
        yield variants[begin : begin + PART]


if __name__ == "__main__":
    main()
