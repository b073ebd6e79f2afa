import numpy as np
import plants
import polars as pl
import pytest
from scipy import stats
from sklearn.metrics import average_precision_score

from cislens.errors import CislensError
from cislens.evaluation.attribution import (
    agreement,
    attribution_task,
    localize,
    mutagenesis_maps,
    network_maps,
    stability,
)
from cislens.evaluation.heads.fitting import Regime
from cislens.evaluation.heads.linear import fit_linear
from cislens.evaluation.heads.onehot_cnn import find_shape, fit_cnn
from cislens.evaluation.metrics import metric_value
from cislens.evaluation.targets import site_mask
from cislens.genome.codes import decode
from cislens.genome.shuffling import dinucleotide_shuffle
from cislens.motifs.sites import consensus_motif
from cislens.randomness import generator
from cislens.representations.baselines import GCContent, KmerCounts

MOTIF = consensus_motif(decode(plants.MOTIF))


def planted_maps(n=12, length=80, strength=3.0):
    rng = generator(0, "maps")
    maps = rng.normal(size=(n, length)).astype(np.float32)
    mask = np.zeros((n, length), np.float32)
    for row, at in enumerate(rng.integers(0, length - 8, n)):
        mask[row, at : at + 8] = 1
    return maps + strength * mask * np.where(np.arange(length) % 2, 1, -1), mask


def test_localization_is_the_mean_average_precision_of_absolute_values():
    maps, mask = planted_maps()
    found = localize(maps, mask, seed=0)
    each = [average_precision_score(m, np.abs(a)) for a, m in zip(maps, mask, strict=True)]
    assert found.each_n == pytest.approx(each, abs=1e-6)
    assert found.auprc == pytest.approx(np.mean(each), abs=1e-6)
    assert found.auprc > 5 * found.null_mean
    assert mask.mean() < found.null_mean < found.null_high < 0.25


def test_maps_that_know_nothing_lie_within_their_null():
    noise = [localize(planted_maps(strength=0)[0] * 0 + generator(i, "n").normal(size=(12, 80)),
                      planted_maps()[1], seed=i) for i in range(20)]  # fmt: skip
    beyond = sum(found.auprc > found.null_high for found in noise)
    assert beyond <= 3  # 2.5 % are expected beyond; of 20 more than 3 has probability 0.001
    assert np.mean([found.auprc for found in noise]) == pytest.approx(
        np.mean([found.null_mean for found in noise]), rel=0.08
    )


def test_what_cannot_be_localized_is_refused():
    maps, mask = planted_maps()
    with pytest.raises(CislensError, match="cannot be held against"):
        localize(maps[:, 1:], mask, seed=0)
    with pytest.raises(CislensError, match="needs a site"):
        localize(maps, np.zeros_like(mask), seed=0)
    broken = maps.copy()
    broken[0, 0] = np.nan
    with pytest.raises(CislensError, match="finite: False"):
        localize(broken, mask, seed=0)


def test_agreement_is_the_correlation_of_absolute_values_in_each_sequence():
    one, _ = planted_maps()
    other = generator(1, "other").normal(size=one.shape) + one
    found = agreement(one, other)
    each = [stats.pearsonr(np.abs(a), np.abs(b))[0] for a, b in zip(one, other, strict=True)]
    assert found == pytest.approx(each, abs=1e-6)
    assert agreement(one, -2 * one) == pytest.approx(1.0)
    flat = one.copy()
    flat[0] = 1
    assert np.isnan(agreement(flat, other)[0])
    three = [one, other, -one]
    pairs = [agreement(a, b).mean() for a, b in ((one, other), (one, -one), (other, -one))]
    assert stability(three) == pytest.approx(np.mean(pairs))
    with pytest.raises(CislensError, match="two or more"):
        stability([one])


def test_only_positives_of_the_test_split_have_sites():
    task = plants.motif_task(300)
    made = attribution_task(task, MOTIF, limit=None)
    assert made.card.kind == "attribution" and made.card.metric.primary == "site_auprc"
    assert made.card.as_trained().kind == "binary" and made.card.name == "motif-sites"
    frame = made.examples
    with_sites = frame.filter(frame["sites"].is_not_null())
    assert set(with_sites["split"]) == {"test"}
    assert set(with_sites["y"].list.first()) == {1.0}
    assert len(with_sites) == made.card.report["test sequences with a site"]
    positives = task.examples.filter(task.examples["split"] == "test")["y"].list.first().sum()
    assert len(with_sites) == positives
    for text, sites in with_sites.select("sequence", "sites").iter_rows():
        words = {text[site["start"] : site["end"]] for site in sites}
        assert words & {"TGACTCAGCA", "TGCTGAGTCA"}
    fewer = attribution_task(task, MOTIF, limit=10)
    assert len(fewer.fold("test")) == 10 == len(fewer.truth())
    assert fewer.task_hash == attribution_task(task, MOTIF, limit=10).task_hash


def test_any_test_sequence_of_a_regression_can_have_a_site():
    task = plants.motif_task(300)
    values = {"kind": "regression", "metric": {"primary": "pearson"}}
    card = plants.binary_card("activity", **values)
    y = generator(0, "activity").normal(size=(300, 1)).astype(np.float32).tolist()
    examples = task.examples.with_columns(pl.Series("y", y, dtype=pl.List(pl.Float32)))
    made = attribution_task(type(task)(card, examples), MOTIF, limit=None)
    assert made.card.as_trained().kind == "regression"
    words = ("TGACTCAGCA", "TGCTGAGTCA")
    test = examples.filter(examples["split"] == "test")["sequence"]
    present = sum(any(word in text for word in words) for text in test)
    assert present <= len(made.fold("test")) < 60  # a site may be one mismatch off, as p allows


def test_tasks_that_have_no_sites_to_judge_are_refused():
    task = plants.motif_task(300)
    with pytest.raises(CislensError, match="no test example has a site"):
        attribution_task(task, consensus_motif("TGACTCAGCATTTTTTTTT"), p_value=1e-11)
    changed = task.card.model_copy(update={"kind": "multilabel"})
    with pytest.raises(CislensError, match="of kind multilabel"):
        attribution_task(type(task)(changed, task.examples), MOTIF)


def matched_task(n: int, length: int = 200):
    """Positives hold the motif at a random place and strand; each negative is a positive with
    its dinucleotides shuffled, so that counts of k-mers up to k = 2 tell nothing."""
    rng = generator(0, "matched")
    codes, y = plants.random_codes(rng, n, length), np.arange(n) % 2
    for row in codes:
        at = rng.integers(0, length - len(plants.MOTIF))
        site = plants.MOTIF if rng.random() < 0.5 else 3 - plants.MOTIF[::-1]
        row[at : at + len(site)] = site
    codes[y == 0] = dinucleotide_shuffle(codes[y == 0], rng)
    return plants.labelled(plants.binary_card("matched"), codes, y)


def null_range(y, scores):
    rng = generator(0, "null")
    values = [metric_value("auroc", rng.permutation(y), scores) for _ in range(200)]
    return np.quantile(values, [0.005, 0.995])


@pytest.mark.slow
def test_a_network_that_learned_a_planted_motif_localizes_it():
    task = attribution_task(matched_task(2500), MOTIF, limit=30)
    train, valid, test = (task.fold(split) for split in ("train", "valid", "test"))
    net = fit_cnn(
        find_shape("onehot-cnn-tiny"), train, valid, card=task.card.as_trained(),
        regime=Regime(steps=400, batch_size=64, learning_rate=1e-2), seed=0,
    )  # fmt: skip
    assert metric_value("auroc", valid.labels, net.scores(valid.sequences)) > 0.95
    half = np.arange(len(valid)) < len(valid) // 2
    for composition in (GCContent(), KmerCounts(2)):
        x_train, x_valid = (composition.embed(fold.sequences, None) for fold in (train, valid))
        head = fit_linear(
            "binary", x_train, train.labels, x_valid[half], valid.labels[half], "auroc"
        )
        y, scores = valid.labels[~half], head.scores(x_valid[~half])
        low, high = null_range(y, scores)
        assert low <= metric_value("auroc", y, scores) <= high, composition.name
    sites = task.examples.filter(task.examples["sites"].is_not_null())["sites"].to_list()
    mask = site_mask(sites, 200)
    maps = {
        "saliency": network_maps(net.net, test, stranded=False),
        "mutagenesis": mutagenesis_maps(lambda fold: net.scores(fold.sequences), test),
    }
    for name, found in maps.items():
        where = localize(found, mask, seed=0)
        assert where.auprc > 5 * where.null_mean, (name, where.auprc, where.null_mean)
    assert np.nanmean(agreement(maps["saliency"], maps["mutagenesis"])) > 0.5
