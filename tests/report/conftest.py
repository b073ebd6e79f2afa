"""A seeded run as a real one would look: five tasks, six arms, three species."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from cislens.report.inputs import EmbeddingMap, ExpertUse, Locus, LocusTrack, ReportInput
from cislens.report.page import write_report

TRAINED, TWIN, RIVAL = "space-plus-tiny", "space-plus-tiny, random weights", "one-hot CNN"
# task, metric, n, groups, score of each arm, half-width of a score's interval
TASKS = [
    ("Yeast promoters", "AUROC", 1204, 96, (0.874, 0.801, 0.842, 0.815, 0.829, 0.741), 0.018),
    ("Human open chromatin", "AUROC", 2310, 141, (0.781, 0.733, 0.779, 0.741, 0.768, 0.70), 0.021),
    ("Yeast peak accessibility", "Pearson r", 642, 71, (0.412, 0.395, 0.398, 0.331, 0.377, 0.29),
     0.062),
    ("PUM2 binding sites", "AUROC", 1890, 188, (0.902, 0.853, 0.957, 0.934, 0.921, 0.63), 0.011),
]  # fmt: skip
ARMS = (TRAINED, TWIN, RIVAL, "one-hot logistic", "k-mer counts (k = 5)", "GC content")
KINDS = dict(
    zip(ARMS, ("trained", "random", "onehot", "onehot", "composition", "composition"), strict=True)
)


def verdict_text(low: float, high: float) -> str:
    if low > 0:
        return "gain over one-hot"
    if high < 0:
        return "loss against one-hot"
    return "no detectable gain over one-hot"


def comparison(task: str, metric: str, baseline: str, points: dict[str, float], half: float,
               n: int, blocks: int) -> dict[str, object]:  # fmt: skip
    difference = points[TRAINED] - points[baseline]
    reach = 0.62 * half
    judged = KINDS[baseline] == "onehot"
    return {
        "task": task, "metric": metric, "arm": TRAINED,
        "point": points[TRAINED], "low": points[TRAINED] - half, "high": points[TRAINED] + half,
        "baseline": baseline, "difference": difference,
        "diff_low": difference - reach, "diff_high": difference + reach,
        "p_holm": float(np.exp(-4.2 * abs(difference) / reach)), "mde": 1.43 * reach,
        "verdict": verdict_text(difference - reach, difference + reach) if judged else "",
        "n_test": n, "blocks": blocks,
    }  # fmt: skip


def score(task: str, metric: str, arm: str, point: float, half: float,
          null: float | None) -> dict[str, object]:  # fmt: skip
    return {
        "task": task, "metric": metric, "primary": True, "arm": arm, "kind": KINDS[arm],
        "point": point, "low": point - half, "high": point + 0.9 * half,
        "null_low": None if null is None else null - 1.1 * half,
        "null_high": None if null is None else null + 1.1 * half,
    }  # fmt: skip


def sample_tables() -> tuple[pl.DataFrame, pl.DataFrame]:
    verdicts, scores = [], []
    for task, metric, n, blocks, values, half in TASKS:
        points = dict(zip(ARMS, values, strict=True))
        null = 0.5 if metric == "AUROC" else 0.0
        scores += [score(task, metric, arm, points[arm], half, null) for arm in ARMS]
        verdicts += [
            comparison(task, metric, baseline, points, half, n, blocks)
            for baseline in (RIVAL, "k-mer counts (k = 5)", TWIN)
        ]
    verdicts[6]["verdict"] = "no detectable gain over one-hot (diff +0.014); not pretraining"
    task, metric, half = "Held-out windows", "Pearson r, window", 0.031
    points = {TRAINED: 0.338, TWIN: 0.121}
    scores += [score(task, metric, arm, point, half, None) for arm, point in points.items()]
    verdicts.append(comparison(task, metric, TWIN, points, half, 412, 38))
    return pl.DataFrame(verdicts), pl.DataFrame(scores, infer_schema_length=None)


def sample_training(rng: np.random.Generator) -> pl.DataFrame:
    rows = []
    for step in range(100, 1201, 100):
        done = 1 - np.exp(-step / 380)
        rows.append((step, "train", "poisson", 1.31 - 0.42 * done + rng.normal(0, 0.01)))
        rows.append((step, "train", "balance", 1.0 + 0.35 * np.exp(-step / 200)))
        rows.append((step, "train", "mutual_information", 0.4 * done))
        rows.append((step, "valid", "poisson_nll", 1.34 - 0.42 * done + rng.normal(0, 0.004)))
        for name, top in (("yeast", 0.71), ("human", 0.52), ("fly", 0.44)):
            for metric, share in (("pearson_pooled", 1.0), ("pearson_window", 0.65)):
                value = share * top * done + rng.normal(0, 0.006)
                rows.append((step, "valid", f"{metric}/{name}", value))
                rows.append((step, "valid", metric, value))
    return pl.DataFrame(rows, schema=["step", "split", "metric", "value"], orient="row")


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


def sample_evidence(rng: np.random.Generator) -> dict[str, object]:
    """Ranks, curves of label efficiency, layers, calibration, costs and audits."""
    ranks = [
        {"arm": arm, "kind": KINDS[arm], "tasks": 4, "mean_rank": rank, "low": rank - 0.6,
         "high": rank + 0.7, "p_best": best, "cliques": cliques}
        for arm, rank, best, cliques in zip(
            ARMS, (1.6, 4.2, 2.1, 3.6, 3.9, 5.6), (0.62, 0.0, 0.36, 0.01, 0.01, 0.0),
            ([0], [1], [0], [1], [1], [2]), strict=True,
        )
    ]  # fmt: skip
    efficiency, calibration, costs = [], [], []
    for task, metric, _, _, values, half in TASKS:
        for arm, value in zip(ARMS, values, strict=True):
            for share, labels in ((0.55, 30), (0.75, 100), (0.9, 300), (1.0, 4096)):
                point = 0.5 + (value - 0.5) * share
                efficiency.append(
                    {
                        "task": task,
                        "metric": metric,
                        "arm": arm,
                        "kind": KINDS[arm],
                        "labels": labels,
                        "point": point,
                        "low": point - half / share,
                        "high": point + half / share,
                    }
                )
            costs.append(
                {"task": task, "arm": arm, "stage": "train", "wall_s": float(rng.lognormal(2))}
            )
            if metric != "AUROC":
                continue
            for predicted in np.linspace(0.05, 0.95, 10):
                observed = float(np.clip(predicted ** (1.5 - value) * 0.97, 0, 1))
                calibration.append(
                    {
                        "task": task,
                        "arm": arm,
                        "kind": KINDS[arm],
                        "predicted": predicted,
                        "observed": observed,
                        "low": max(observed - 0.06, 0),
                        "high": observed + 0.05,
                        "brier": 0.15,
                        "ece": 0.04,
                        "ece_low": 0.03,
                        "ece_high": 0.06,
                    }
                )
    layers = [
        {"task": TASKS[0][0], "metric": "AUROC", "arm": TRAINED, "layer": layer,
         "pooling": pooling, "valid_score": 0.7 + 0.04 * i + 0.02 * j, "chosen": (i, j) == (3, 1)}
        for i, layer in enumerate(("embed", "L1", "L2", "out"))
        for j, pooling in enumerate(("max", "mean"))
    ]  # fmt: skip
    checks = [{"name": "gc-only", "verdict": "warn", "found": "AUROC .58, .08 above chance"},
              {"name": "homology", "verdict": "pass", "found": "0 of 1204"}]  # fmt: skip
    audits = [{"task": TASKS[0][0], "verdict": "warn", "checks": checks},
              {"task": TASKS[1][0], "verdict": "pass", "checks": checks[1:]}]  # fmt: skip
    return {
        "ranks": pl.DataFrame(ranks), "efficiency": pl.DataFrame(efficiency),
        "calibration": pl.DataFrame(calibration), "costs": pl.DataFrame(costs),
        "layers": pl.DataFrame(layers), "audits": audits,
        "label_areas": pl.DataFrame([
            {"task": TASKS[0][0], "arm": TRAINED, "aulc": 0.81, "low": 0.79, "high": 0.83,
             "n_match": 812.0},
            {"task": TASKS[0][0], "arm": TWIN, "aulc": 0.74, "low": 0.71, "high": 0.76,
             "n_match": None},
        ]),
    }  # fmt: skip


def sample_maps(rng: np.random.Generator) -> list[EmbeddingMap]:
    """Of a task with two classes and one of values, three arms each."""
    maps = []
    for task, classes in ((TASKS[0][0], ["closed", "open"]), (TASKS[1][0], [])):
        for arm in (TRAINED, TWIN, "k-mer counts (k = 5)"):
            label = rng.integers(0, 2, 60) if classes else rng.gamma(2.0, 1.0, 60)
            rows = pl.DataFrame({
                "example_id": [f"e{row}" for row in range(60)], "label": label.astype(float),
                "x": label + rng.normal(0, 0.5, 60), "y": rng.normal(0, 1, 60),
            })  # fmt: skip
            said = "PCA, 31 % and 12 % of the variance"
            maps.append(EmbeddingMap(task, arm, KINDS[arm], "PCA", said, classes, "open", rows))
    return maps


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
    species_load = rng.dirichlet([6.0] * 4, size=(2, 3))
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
        "recipe": "seed: 20\nmodel:\n  preset: space-plus-tiny\ntraining:\n  steps: 1200\n",
    }  # fmt: skip
    return ReportInput(
        title="cislens demo: what pre-training on three species is worth",
        verdicts=verdicts, scores=scores, training=sample_training(rng), loci=loci,
        experts=ExpertUse(["block 1", "block 2"], ["yeast", "human", "fly"], species_load.mean(1),
                          species_load, top_k=2),
        manifest=manifest, maps=sample_maps(np.random.default_rng(8)), **sample_evidence(rng),
        notes=["Windows are split into contiguous blocks; homologous windows share a block.",
               "Heads are chosen on the validation part; the test part is read once."],
    )  # fmt: skip


@pytest.fixture(scope="session")
def run() -> ReportInput:
    return sample_run()


@pytest.fixture(scope="session")
def report_file(run: ReportInput, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The page of the run."""
    return write_report(run, tmp_path_factory.mktemp("report") / "report.html")
