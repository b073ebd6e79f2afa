import numpy as np
import polars as pl
import pytest
from scipy import stats

from cislens.effects.alleles import sign_of
from cislens.errors import CislensError
from cislens.evaluation.heads.linear import fit_linear
from cislens.evaluation.metrics import metric_value
from cislens.evaluation.tasks.card import Metric, Target, TaskCard
from cislens.evaluation.tasks.task import Task, make_task
from cislens.evaluation.variant_baselines import (
    VariantBaseline,
    available_baselines,
    baseline_features,
)
from cislens.evaluation.zero_shot import by_locus, choose_score, fitting_scores
from cislens.randomness import generator
from cislens.representations.baselines import KmerCounts

LENGTH = 41
CENTER = LENGTH // 2
SPLITS = {"train": 120, "valid": 80, "test": 80}


def variant_task(effect, *, sign="signed", metric="pearson", indels=0, tss=False) -> Task:
    """Random substitutions whose label is a function of both windows; the first `indels` test
    variants change two bases."""
    total = sum(SPLITS.values())
    rng = generator(0, "variants")
    reference = rng.integers(0, 4, (total, LENGTH)).astype(np.uint8)
    alternate = reference.copy()
    alternate[:, CENTER] = (alternate[:, CENTER] + rng.integers(1, 4, total)) % 4
    split = np.repeat(list(SPLITS), list(SPLITS.values()))
    for row in np.flatnonzero(split == "test")[:indels]:
        alternate[row, CENTER + 1] = (alternate[row, CENTER + 1] + 1) % 4
    y = np.array([effect(r, a) for r, a in zip(reference, alternate, strict=True)], float)
    if metric in ("auroc", "auprc"):
        y = (y > np.median(y)).astype(float)
    locus = np.arange(total) // 20
    rows = pl.DataFrame(
        {
            "example_id": [f"v{i:04d}" for i in range(total)], "y": y[:, None].tolist(),
            "split": split, "cluster_id": [f"c{i}" for i in range(total)],
            "block_id": [f"locus{i:02d}" for i in locus], "chrom": "chr1",
            "pos": 1 + 1000 * locus + 7 * (np.arange(total) % 20),
            "tss_dist": -(10.0 ** (np.arange(total) % 5)) if tss else None,
        }
    )  # fmt: skip
    card = TaskCard(
        name="planted", kind="variant", window=LENGTH, target=Target(names=["effect"]),
        metric=Metric(primary=metric), split="predefined", block="locus", score_sign=sign,
        strand="stranded",
    )  # fmt: skip
    return make_task(card, rows, list(reference), list(alternate))


def strength(reference, alternate):
    """A planted effect of the substituted base, larger for some pairs than for others."""
    return abs(int(reference[CENTER]) - int(alternate[CENTER])) + 0.01 * reference[0]


class Planted:
    """Three views: noise, one whose distances are the planted effect, and noise again."""

    name, kind, parameters, digest = "planted", "trained", 0, "planted/1"
    views = ("L1.mean", "L2.mean", "out.mean")

    def embed(self, sequences, species, stranded=False):
        return self.embed_views(sequences, species, stranded, self.views[-1:])[self.views[-1]]

    def embed_views(self, sequences, species, stranded, views):
        codes = np.stack(sequences).astype(np.float32)
        noise = np.sin((codes @ np.arange(1, LENGTH + 1)[:, None]) ** 2)
        found = {view: noise.astype(np.float32) for view in views}
        if "L2.mean" in views:
            found["L2.mean"] = codes[:, CENTER : CENTER + 1]
        return found


class LanguageModel(KmerCounts):
    """Knows that base 3 is likely, 0 is not, wherever it is asked."""

    log_p = np.log(np.array([0.1, 0.2, 0.3, 0.4], np.float32))

    def base_log_probabilities(self, sequences, positions, species):
        return np.tile(self.log_p, (len(positions), 1))


def test_validation_chooses_the_view_and_measure_that_carry_the_effect():
    task = variant_task(strength, sign="unsigned")
    chosen = choose_score(Planted(), task.card, task.fold("valid"))
    assert chosen.score == "L2.mean:l1" and chosen.orientation == 1
    assert chosen.valid_metric == pytest.approx(1.0, abs=1e-3)
    assert len(chosen.tried) == 12 and chosen.tried["L1.mean:l2"] < 0.5
    scores = chosen.scores(task.fold("test"))
    assert scores.shape == (80, 1) and scores.dtype == np.float32
    assert metric_value("pearson", np.stack(task.truth()["y"].to_list()), scores) > 0.99


def test_the_orientation_is_chosen_with_the_score():
    task = variant_task(lambda r, a: -strength(r, a), sign="unsigned", metric="auroc")
    chosen = choose_score(Planted(), task.card, task.fold("valid"))
    assert chosen.orientation == -1 and chosen.valid_metric > 0.9
    truth = np.stack(task.truth()["y"].to_list())
    assert metric_value("auroc", truth, chosen.scores(task.fold("test"))) > 0.9


def test_a_signed_target_refuses_unsigned_scores_and_says_what_is_allowed():
    def gained(reference, alternate):
        return float(
            LanguageModel.log_p[alternate[CENTER]] - LanguageModel.log_p[reference[CENTER]]
        )

    task = variant_task(gained)
    valid = task.fold("valid")
    with pytest.raises(CislensError, match=r"signed effects, and L1.mean:l1, .* allowed: none"):
        choose_score(Planted(), task.card, valid)
    model = LanguageModel(2)
    with pytest.raises(CislensError, match=r"embed:l2 of .* is not; allowed: masked:llr\."):
        choose_score(model, task.card, valid, scores=["masked:llr", "embed:l2"])
    chosen = choose_score(model, task.card, valid)
    assert chosen.score == "masked:llr" and chosen.valid_metric == pytest.approx(1, abs=1e-5)
    unsigned = variant_task(lambda r, a: abs(gained(r, a)), sign="unsigned")
    names = fitting_scores(model, unsigned.card, [unsigned.fold("valid")])
    assert {sign_of(name) for name in names} == {"unsigned", "directed"}
    assert choose_score(model, unsigned.card, unsigned.fold("valid")).score == "masked:abs_llr"
    by_name = choose_score(model, unsigned.card, unsigned.fold("valid"), scores=["embed:dot"])
    assert by_name.score == "embed:dot" and "embed:dot" not in names
    with pytest.raises(CislensError, match="no variant score 'masked:lr'"):
        choose_score(model, task.card, valid, scores=["masked:lr"])


def test_a_score_is_chosen_only_if_all_judged_variants_have_it():
    task = variant_task(strength, sign="unsigned", indels=3)
    model, valid, test = LanguageModel(2), task.fold("valid"), task.fold("test")
    assert "masked:abs_llr" in choose_score(model, task.card, valid).tried
    chosen = choose_score(model, task.card, valid, test)
    assert not any(name.startswith("masked") for name in chosen.tried)
    assert np.isfinite(chosen.scores(test)).all()


def test_a_representation_that_does_not_see_the_variants_is_named():
    class Blind(KmerCounts):
        def embed(self, sequences, species, stranded=False):
            return np.ones((len(sequences), 3), np.float32)

    task = variant_task(strength, sign="unsigned")
    with pytest.raises(CislensError, match="does not see the changed bases"):
        choose_score(Blind(2), task.card, task.fold("valid"))
    with pytest.raises(CislensError, match="chosen on labelled variants"):
        choose_score(Blind(2), task.card, task.fold("test"))


def ridge(task: Task, name: str) -> float:
    train, valid, test = (task.fold(split) for split in SPLITS)
    x = [baseline_features(task, fold, name) for fold in (train, valid, test)]
    head = fit_linear("regression", x[0], train.labels, x[1], valid.labels, "pearson")
    return metric_value("pearson", np.stack(task.truth()["y"].to_list()), head.scores(x[2]))


def strong(codes):
    return int(np.isin(codes, (1, 2)).sum())


@pytest.mark.parametrize("sign", ["signed", "unsigned"])
def test_each_baseline_explains_the_effect_that_it_knows(sign):
    of = (lambda x: x) if sign == "signed" else abs
    gc = variant_task(lambda r, a: of(strong(a) - strong(r)), sign=sign)
    assert ridge(gc, "gc-change") > 0.99
    noise = iter(generator(3, "noise").normal(size=1000))
    nothing = variant_task(lambda r, a: next(noise), sign=sign, tss=True)
    for name in available_baselines(nothing):
        assert abs(ridge(nothing, name)) < 0.35, name


def test_the_onehot_and_kmer_baselines_know_the_substitution():
    table = generator(1, "substitutions").normal(size=(4, 4))
    task = variant_task(lambda r, a: table[a[CENTER]].sum() - table[r[CENTER]].sum())
    assert ridge(task, "onehot-change") > 0.97
    assert ridge(task, "kmer-change") > 0.8  # thinned out over 692 counts


def test_position_and_distance_are_features_where_the_task_has_them():
    task = variant_task(strength, tss=True)
    test = task.fold("test")
    distance = baseline_features(task, test, "tss-distance")
    assert distance[:5, 0] == pytest.approx(np.log10(1 + 10.0 ** np.arange(5)), rel=1e-6)
    source = VariantBaseline(task, "kmer-change")
    place = source.features(test, source.views)[source.views[-1]][:20, -2]
    assert place == pytest.approx(np.arange(20) / 19, abs=1e-6)
    bare = variant_task(strength)
    assert "tss-distance" not in available_baselines(bare)
    with pytest.raises(CislensError, match="no tss_dist"):
        baseline_features(bare, bare.fold("test"), "tss-distance")
    with pytest.raises(CislensError, match=r"no variant baseline 'kmer'. Did you mean 'kmer"):
        baseline_features(bare, bare.fold("test"), "kmer")


def test_correlation_within_loci_is_told_from_correlation_between_them():
    rng = generator(0, "simpson")
    loci = np.repeat([f"l{i}" for i in range(6)], 40)
    level = np.repeat(np.arange(6) * 10.0, 40)
    inside = rng.normal(size=240)
    y, s = level + inside, level - inside
    found = by_locus("pearson", y, s, loci)
    assert found.pooled > 0.95 and found.between > 0.99
    assert found.within == pytest.approx(-1, abs=1e-9)
    assert found.loci["l3"] == pytest.approx(stats.pearsonr(y[120:160], s[120:160])[0], abs=1e-9)
    two = by_locus("pearson", y[:80], s[:80], loci[:80])
    assert np.isnan(two.between) and two.within == pytest.approx(-1, abs=1e-9)
    one_class = by_locus("auroc", level > 20, s, loci)
    assert np.isnan(one_class.within) and one_class.pooled > 0.95
