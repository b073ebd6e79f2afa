"""A seeded run as a real one would look: five tasks, seven arms, three species."""

import numpy as np
import polars as pl
import pytest

from cislens.report.inputs import ExpertUse, Locus, LocusTrack, ReportInput

TRAINED, TWIN, RIVAL = "space-tiny", "space-tiny, random weights", "one-hot CNN"
# task, metric, n, groups, score of each arm, half-width of a score's interval
TASKS = [
    ("Yeast promoters", "AUROC", 1204, 96, (0.874, 0.801, 0.842, 0.815, 0.829, 0.741, 0.5), 0.018),
    ("Human open chromatin", "AUROC", 2310, 141, (0.781, 0.733, 0.779, 0.741, 0.768, 0.70, 0.5),
     0.021),
    ("Yeast peak accessibility", "Pearson r", 642, 71, (0.412, 0.305, 0.398, 0.331, 0.377, 0.29,
                                                        0.05), 0.062),
    ("PUM2 binding sites", "AUROC", 1890, 188, (0.902, 0.853, 0.957, 0.934, 0.921, 0.63, 0.5),
     0.011),
]  # fmt: skip
ARMS = (TRAINED, TWIN, RIVAL, "one-hot logistic", "k-mer counts (k = 5)", "GC content", "length")
KINDS = dict(zip(ARMS, ("trained", "random", *["baseline"] * 5), strict=True))


def verdict_text(low: float, high: float, twin_low: float) -> str:
    if low > 0:
        return "gain" if twin_low > 0 else "gain; not pretraining"
    if high < 0:
        return "loss"
    if low > -0.01 and high < 0.01:
        return "equivalent"
    return "no detectable gain over one-hot"


def comparison(task: str, metric: str, pair: tuple[str, str], points: dict[str, float],
               half: float) -> dict[str, object]:  # fmt: skip
    arm, baseline = pair
    difference = points[arm] - points[baseline]
    reach = 0.62 * half
    return {
        "task": task, "metric": metric, "arm": arm,
        "point": points[arm], "low": points[arm] - half, "high": points[arm] + 0.9 * half,
        "baseline": baseline, "difference": difference,
        "diff_low": difference - reach, "diff_high": difference + reach,
        "p_holm": float(np.exp(-4.2 * abs(difference) / reach)), "mde": 1.43 * reach,
        "verdict": verdict_text(difference - reach, difference + reach, 0.01),
    }  # fmt: skip


def sample_tables() -> tuple[pl.DataFrame, pl.DataFrame]:
    verdicts, scores = [], []
    for task, metric, n, blocks, values, half in TASKS:
        points = dict(zip(ARMS, values, strict=True))
        null = 0.5 if metric == "AUROC" else 0.0
        for arm in ARMS:
            scores.append({
                "task": task, "metric": metric, "arm": arm, "kind": KINDS[arm],
                "point": points[arm], "low": points[arm] - half, "high": points[arm] + 0.9 * half,
                "null_low": null - 1.1 * half, "null_high": null + 1.1 * half,
                "n": n, "blocks": blocks,
            })  # fmt: skip
            if arm != RIVAL:
                verdicts.append(comparison(task, metric, (arm, RIVAL), points, half))
    task, metric, half = "Held-out windows", "Pearson r, window", 0.031
    points = {TRAINED: 0.338, TWIN: 0.121}
    scores += [
        {
            "task": task, "metric": metric, "arm": arm, "kind": KINDS[arm], "point": point,
            "low": point - half, "high": point + half,
            "null_low": None, "null_high": None, "n": 412, "blocks": 38,
        }
        for arm, point in points.items()
    ]  # fmt: skip
    verdicts.append(comparison(task, metric, (TRAINED, TWIN), points, half))
    return pl.DataFrame(verdicts), pl.DataFrame(scores, infer_schema_length=None)


def sample_training(rng: np.random.Generator) -> pl.DataFrame:
    rows = []
    for part, every in (("train", 20), ("valid", 120)):
        for step in range(every, 1201, every):
            done = 1 - np.exp(-step / 380)
            noise = rng.normal(0, 0.012 if part == "train" else 0.003)
            gap = 0.03 if part == "valid" else 0.0
            for name, species, value in (
                ("loss", None, 1.31 - 0.42 * done + gap + 1.5 * noise),
                ("pearson_pooled", "yeast", 0.71 * done - gap + noise),
                ("pearson_pooled", "human", 0.52 * done - gap + noise),
                ("pearson_pooled", "fly", 0.44 * done - gap + 0.7 * noise),
                ("pearson_window", "yeast", 0.49 * done - gap + noise),
                ("pearson_window", "human", 0.30 * done - gap + noise),
                ("pearson_window", "fly", 0.27 * done - gap + 0.7 * noise),
                ("balance_switch", None, 1.0 + 0.35 * np.exp(-step / 200) + abs(noise)),
            ):
                if part == "train" or not name.startswith("balance"):
                    rows.append((step, part, name, species, float(value)))
    columns = ["step", "part", "metric", "species", "value"]
    return pl.DataFrame(rows, schema=columns, orient="row", infer_schema_length=None)


def sample_locus(rng: np.random.Generator, species: str, chrom: str, start: int, names: list[str],
                 genes: pl.DataFrame | None, title: str = "") -> Locus:  # fmt: skip
    bins, bin_size = 128, 128
    tracks = []
    for name in names:
        centers = rng.uniform(0, bins, 6)
        heights = rng.gamma(2.0, 9.0, 6)
        x = np.arange(bins)[:, None]
        signal = (heights * np.exp(-0.5 * ((x - centers) / rng.uniform(1, 4, 6)) ** 2)).sum(1)
        measured = rng.poisson(signal + 1.2).astype(float)
        tracks.append(LocusTrack(name, measured, 0.7 * signal + 1.5 + rng.gamma(1, 0.6, bins)))
    return Locus(species, chrom, start, bin_size, tracks, genes, title=title)


def sample_run() -> ReportInput:
    rng = np.random.default_rng(7)
    verdicts, scores = sample_tables()
    genes = pl.DataFrame({
        "chrom": ["chrIV"] * 8,
        "start": [118_000, 122_100, 124_300, 126_000, 127_200, 130_100, 133_000, 135_800],
        "end": [121_300, 123_900, 125_700, 126_900, 129_700, 132_600, 135_500, 138_000],
        "name": ["RPL4B", "YDL180W", "PHO2", "NHP10", "SIR2", "COX9", "MBP1", "GAL3"],
        "strand": ["+", "-", "+", "+", "-", "+", "-", "+"],
    })  # fmt: skip
    loci = [
        sample_locus(rng, "yeast", "chrIV", 120_000, ["ATAC, log phase", "ATAC, stationary",
                                                      "ATAC, heat shock"], genes),
        sample_locus(rng, "human", "chr20", 41_310_208, ["CTCF ChIP, GM12878", "input, GM12878"],
                     None, title="CTCF cluster on chromosome 20"),
        sample_locus(rng, "fly", "chr2L", 5_212_160, ["RNA-seq, embryo"], None),
    ]  # fmt: skip
    load = rng.dirichlet([6.0] * 4, size=(2, 3))
    manifest = {
        "summary": {"recipe": "demo", "species": "yeast, human, fly", "training": "1,200 steps",
                    "device": "CPU, 2 cores", "wall time": "4 min 52 s"},
        "code": "cislens 0.1.0", "seed": 20,
        "interval": "Intervals are 95 % percentile intervals of a paired block bootstrap (2,000 "
                    "draws) over homology groups of test examples and 5 head seeds. They cover "
                    "test sampling and head training; they do not cover another choice of "
                    "training set or another pre-training run.",
        "splits": [
            {"species": "yeast", "windows": 612, "train": 490, "valid": 61, "test": 61},
            {"species": "human", "windows": 488, "train": 390, "valid": 49, "test": 49},
            {"species": "fly", "windows": 366, "train": 293, "valid": 36, "test": 37},
        ],
        "dropped": {"windows over two blocks": 84, "windows with more than 25 % N": 3},
        "licences": [
            {"source": "S. cerevisiae genome (sacCer3)", "licence": "public domain"},
            {"source": "ENCODE CTCF ChIP-seq, GM12878", "licence": "CC BY 4.0"},
        ],
        "versions": {"python": "3.11.2", "torch": "2.13.0", "numpy": "2.4.6"},
        "digests": {"store": "9f2c" * 16, "model": "41ab" * 16},
        "ledger": {"train": {"seconds": 171.2, "steps": 1200}, "bench": {"seconds": 84.9}},
        "recipe": "seed: 20\nmodel:\n  preset: space-tiny\ntraining:\n  steps: 1200\n",
    }  # fmt: skip
    return ReportInput(
        title="cislens demo: what pre-training on three species is worth",
        verdicts=verdicts, scores=scores, training=sample_training(rng), loci=loci,
        experts=ExpertUse(["block 1", "block 2"], ["yeast", "human", "fly"], load, top_k=2),
        manifest=manifest,
        notes=["Windows are split into contiguous blocks; homologous windows share a block.",
               "Heads are chosen on the validation part; the test part is read once."],
    )  # fmt: skip


@pytest.fixture(scope="session")
def run() -> ReportInput:
    return sample_run()
