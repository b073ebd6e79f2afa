from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from cislens.errors import CislensError
from cislens.report.inputs import ExpertUse, Locus, LocusTrack, ReportInput


def test_a_missing_column_is_named(run: ReportInput) -> None:
    with pytest.raises(CislensError, match="verdicts table: no column mde, verdict"):
        replace(run, verdicts=run.verdicts.drop("mde", "verdict"))
    with pytest.raises(CislensError, match="scores table: no column kind"):
        replace(run, scores=run.scores.drop("kind"))
    assert run.training is not None
    with pytest.raises(CislensError, match="training table: no column step"):
        replace(run, training=run.training.drop("step"))


def test_an_unknown_kind_is_named(run: ReportInput) -> None:
    with pytest.raises(CislensError, match=r"unknown kind 'rndom'\. Did you mean 'random'"):
        replace(run, scores=run.scores.with_columns(kind=pl.lit("rndom")))


def test_tracks_of_a_locus_have_its_bins() -> None:
    good = LocusTrack("a", np.zeros(4), np.zeros(4))
    locus = Locus("yeast", "chrI", 100, 10, [good])
    assert (locus.bins, locus.end) == (4, 140)
    with pytest.raises(CislensError, match=r"track 'b': measured \(4,\) and predicted \(5,\)"):
        Locus("yeast", "chrI", 100, 10, [good, LocusTrack("b", np.zeros(4), np.zeros(5))])


def test_expert_shares_sum_to_one_or_belong_to_an_absent_species() -> None:
    load = np.array([[0.5, 0.5]])
    ExpertUse(["1"], ["yeast", "fly"], load, np.array([[[0.2, 0.8], [0, 0]]]), 1)
    with pytest.raises(CislensError, match="load_XE must hold shares that sum to 1"):
        ExpertUse(["1"], ["yeast"], load * 0, np.array([[[0.2, 0.8]]]), 1)
    with pytest.raises(CislensError, match=r"found sums from 1\.1 to 1\.1"):
        ExpertUse(["1"], ["yeast"], load, np.array([[[0.3, 0.8]]]), 1)
    with pytest.raises(CislensError, match=r"species_XSE has shape \(1, 1, 2\), expected"):
        ExpertUse(["1"], ["yeast", "fly"], load, np.array([[[0.2, 0.8]]]), 1)


def test_secondary_scores_make_no_task(run: ReportInput) -> None:
    extra = run.scores.with_columns(metric=pl.lit("AUPRC"), primary=pl.lit(value=False))
    more = replace(run, scores=pl.concat([run.scores, extra]))
    assert more.tasks() == run.tasks()
    assert len(run.tasks()) == 5
