import re

import numpy as np
import polars as pl
import pytest

from cislens.report.figures.canvas import Picture, shortened, text_width
from cislens.report.figures.experts import effective_experts, load_map
from cislens.report.figures.intervals import forest, forest_limits, score_limits, scores
from cislens.report.figures.loci import correlation, locus_panel
from cislens.report.figures.training import curve
from cislens.report.inputs import Locus, LocusTrack, ReportInput
from cislens.report.words import main_comparisons


def labels(picture: Picture) -> list[str]:
    return re.findall(r"<text[^>]*>([^<]*)</text>", picture.svg)


def label_places(picture: Picture) -> dict[str, float]:
    """y of each label that is placed by x and y."""
    return {
        text: float(y)
        for y, text in re.findall(r'<text[^>]* y="([\d.]+)"[^>]*>([^<]*)</text>', picture.svg)
    }


def test_long_names_lose_their_middle_and_fit() -> None:
    name = "a representation with a very long name, layer 12, mean pooled"
    short = shortened(name, 100, 11)
    assert text_width(short, 11) <= 100
    assert short[0] == "a"
    assert short[-1] == "d"
    assert "\u2026" in short
    assert shortened("one-hot", 100, 11) == "one-hot"


def test_forest_axis_holds_main_interval_mde_and_zero(run: ReportInput) -> None:
    rows = run.verdicts.filter(pl.col("metric") == "AUROC")
    main = main_comparisons(run).filter(pl.col("metric") == "AUROC")
    low, high = forest_limits(rows, main)
    assert low < min(main["diff_low"].min(), -main["mde"].max(), 0)  # type: ignore[type-var, operator]
    assert high > max(main["diff_high"].max(), main["mde"].max(), 0)  # type: ignore[type-var, operator]


def test_a_far_interval_leaves_the_forest_axis_but_keeps_its_numbers(run: ReportInput) -> None:
    rows = run.verdicts.head(2)
    far = pl.col("baseline") != "one-hot CNN"
    moved = [pl.when(far).then(pl.col(name) + 3).otherwise(name).alias(name)
             for name in ("difference", "diff_low", "diff_high")]  # fmt: skip
    rows = rows.with_columns(moved)
    limits = forest_limits(rows, rows.filter(~far))
    assert limits[1] < 0.2
    kinds = {
        "space-plus-tiny": "trained",
        "one-hot CNN": "onehot",
        "k-mer counts (k = 5)": "composition",
    }
    picture = forest(rows, kinds, {"one-hot CNN"}, limits)
    assert "+3.045 [+3.034, +3.056]" in labels(picture)
    assert "vs one-hot CNN" in labels(picture)


def test_scores_axis_holds_everything_and_chance(run: ReportInput) -> None:
    rows = run.scores.filter(pl.col("task") == "Yeast promoters")
    low, high = score_limits(rows)
    assert low < rows["null_low"].min()  # type: ignore[operator]
    assert high > rows["high"].max()  # type: ignore[operator]
    assert "0.874 [0.856, 0.890]" in labels(scores(rows, (low, high)))


def test_correlation_is_pearson_and_undefined_when_flat() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 50))
    assert correlation(LocusTrack("t", a, b)) == pytest.approx(np.corrcoef(a, b)[0, 1])
    assert np.isnan(correlation(LocusTrack("t", a, np.ones(50))))
    gap = np.where(np.arange(50) < 5, np.nan, a)
    assert correlation(LocusTrack("t", gap, b)) == pytest.approx(np.corrcoef(a[5:], b[5:])[0, 1])


def test_locus_names_tracks_scale_and_genes_inside() -> None:
    genes = pl.DataFrame({
        "chrom": ["chrI", "chrI", "chrII"], "start": [1000, 90_000, 1000],
        "end": [3000, 95_000, 3000], "name": ["IN", "OUT", "ELSE"], "strand": ["+", "+", "+"],
    })  # fmt: skip
    track = LocusTrack("ATAC", np.r_[np.zeros(99), 12.5], np.zeros(100))
    found = labels(locus_panel(Locus("yeast", "chrI", 0, 100, [track], genes)))
    assert "ATAC" in found
    assert "0\u201312.5 signal per base" in found
    assert "IN \u203a" in found
    assert not {"OUT \u203a", "ELSE \u203a"} & set(found)
    assert "position on chrI (kb)" in found


def test_effective_experts_span_one_to_all() -> None:
    load = np.array([[0.25] * 4, [1, 0, 0, 0], [0.5, 0.5, 0, 0], [0, 0, 0, 0]])
    np.testing.assert_allclose(effective_experts(load), [4, 1, 2, np.nan])


def test_expert_map_prints_shares_in_percent() -> None:
    found = labels(load_map(["yeast", "absent"], np.array([[0.6, 0.4], [0, 0]]), "species"))
    assert {"60", "40", "yeast", "absent", "2.0 of 2"} <= set(found)  # exp(0.673) = 1.96
    assert "\u2013 of 2" in found


def test_line_labels_never_overlap() -> None:
    rows = pl.DataFrame({
        "step": [0, 1] * 4, "split": ["valid"] * 8, "value": [0.0, 1.0] * 4,
        "species": [name for name in "abcd" for _ in range(2)],
    })  # fmt: skip
    places = label_places(curve(rows, "r"))
    heights = sorted(y for text, y in places.items() if text.endswith("valid"))
    assert len(heights) == 4
    assert min(np.diff(heights)) >= 14
