from dataclasses import replace

import numpy as np
import pytest
import torch
from plants import binary_card, motif_task, random_codes
from torch import nn

from cislens.errors import CislensError
from cislens.evaluation.heads.fitting import (
    Dropout,
    Kept,
    Regime,
    graph_hash,
    require_every_layer_used,
)
from cislens.evaluation.heads.linear import fit_linear
from cislens.evaluation.heads.onehot_cnn import (
    ResidualShape,
    find_shape,
    fit_cnn,
    padded,
    shifted,
)
from cislens.evaluation.metrics import metric_value
from cislens.evaluation.tasks.card import Metric, Target, TaskCard
from cislens.evaluation.tasks.task import Fold
from cislens.genome.codes import N, encode, reverse_complement
from cislens.randomness import generator
from cislens.representations.baselines import KmerCounts

NARROW = ResidualShape("onehot-cnn-base").narrowed(1 / 16)
SHORT = Regime(45, 64, 1e-2, checks=2)


def fold(codes: np.ndarray, y: np.ndarray) -> Fold:
    ids = tuple(str(i) for i in range(len(codes)))
    return Fold(ids, tuple(codes), np.array(ids), np.atleast_2d(y.T).T.astype(np.float32))


def card(kind: str, outputs: int, metric: str, **changes: object) -> TaskCard:
    target = Target(names=[f"t{i}" for i in range(outputs)], masked=True)
    if kind == "multiclass":
        target = Target(names=["class"], classes=["a", "b", "c"])
    values = {"kind": kind, "target": target, "metric": Metric(primary=metric)}
    return binary_card("planted", **{**values, **changes})


def counts(codes: np.ndarray, word: str) -> np.ndarray:
    """How often a word and its reverse complement occur."""
    forward = encode(word)
    windows = np.lib.stride_tricks.sliding_window_view(codes, len(word), axis=1)
    return sum(
        (windows == form).all(-1).sum(1) for form in (forward, reverse_complement(forward))
    )  # fmt: skip


def test_the_base_network_has_the_layers_that_it_is_said_to_have() -> None:
    net = find_shape("onehot-cnn-base").build(3, [], 0)
    convolutions = [m for m in net.modules() if isinstance(m, nn.Conv1d)]
    found = [(c.out_channels, c.kernel_size[0], c.dilation[0]) for c in convolutions]
    fine = [(256, 3, d) for d in (1, 2, 4, 8, 16)]
    coarse = [(256, 3, d) for d in (1, 2, 4)]
    assert found == [(256, 19, 1), *fine, (256, 7, 1), *coarse, (256, 1, 1)]
    assert [m.out_features for m in net.head if isinstance(m, nn.Linear)] == [256, 3]
    # A base reaches 9 + (1+2+4+8+16) bp before the pool and 5 * (3 + 1+2+4) after it.
    x = torch.zeros(1, 4, 400, requires_grad=True)
    net.eval()
    trunk = net.trunk
    h = trunk.fine(trunk.stem_norm(trunk.stem(x)))
    reach = torch.autograd.grad(h[0, :, 200].sum(), x)[0].abs().sum((0, 1)).nonzero()
    assert 200 - int(reach.min()) <= 9 + 31
    assert int(reach.max()) - 200 <= 9 + 31


def test_a_narrowed_base_has_a_name_of_its_own() -> None:
    assert NARROW.name == "onehot-cnn-base-x0.0625"
    assert (NARROW.channels, NARROW.dense) == (16, 16)
    with pytest.raises(CislensError, match="onehot-cnn-base"):
        find_shape("onehot-cnn-bsae")


def test_the_weights_of_the_best_check_are_kept() -> None:
    task = motif_task(1200, length=40)
    fitted = fit_cnn(
        NARROW, task.fold("train"), task.fold("valid"), card=task.card,
        regime=Regime(80, 64, 2e-2, checks=2), seed=1,
    )  # fmt: skip
    valid = task.fold("valid")
    assert fitted.valid_metric > 0.95  # composition is the same in both classes
    assert metric_value("auroc", valid.labels, fitted.scores(valid.sequences)) == pytest.approx(
        fitted.valid_metric, abs=1e-9
    )


def spaced(n: int, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Two motifs in every sequence: 8 bp apart in class 1, another distance in class 0."""
    rng = np.random.default_rng(0)
    codes, y = random_codes(rng, n, length), rng.integers(0, 2, n)
    first, second = encode("TGACTCA"), encode("CACGTG")
    for row, label in zip(codes, y, strict=True):
        gap = 8 if label else rng.choice([2, 4, 14, 20])
        at = rng.integers(0, length - 13 - gap)
        row[at : at + 7] = first
        row[at + 7 + gap : at + 13 + gap] = second
    return codes, y


def test_the_distance_between_two_motifs_is_seen_by_the_network_and_not_by_kmers() -> None:
    codes, y = spaced(1500, length=50)
    train, valid = fold(codes[:1200], y[:1200]), fold(codes[1200:], y[1200:])
    fitted = fit_cnn(
        NARROW, train, valid, card=card("binary", 1, "auroc", strand="stranded"),
        regime=Regime(130, 64, 2e-2, checks=2), seed=0,
    )  # fmt: skip
    counted = [KmerCounts(5).embed(part.sequences, None, stranded=True) for part in (train, valid)]
    linear = fit_linear("binary", counted[0], train.labels, counted[1], valid.labels, "auroc")
    assert fitted.valid_metric > 0.9
    assert linear.valid_metric < 0.65


@pytest.mark.parametrize("shape", [NARROW, find_shape("onehot-cnn-tiny")])
def test_a_seed_decides_everything_and_torchs_global_state_nothing(shape) -> None:
    task = motif_task(200, length=60)
    train, valid = task.fold("train"), task.fold("valid")

    def scores(seed: int) -> np.ndarray:
        return fit_cnn(
            shape, train, valid, card=task.card, regime=Regime(6, 16, 1e-2), seed=seed
        ).scores(valid.sequences)  # fmt: skip

    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = scores(3)
    assert (torch.get_rng_state() == before).all()
    torch.rand(5)
    assert (scores(3) == first).all()
    assert not np.allclose(scores(4), first)


def test_unstranded_scores_are_those_of_both_strands_and_stranded_ones_are_not() -> None:
    task = motif_task(200, length=60)
    train, valid = task.fold("train"), task.fold("valid")
    other = tuple(reverse_complement(codes) for codes in valid.sequences)
    for strand, same in (("unstranded", True), ("stranded", False)):
        fitted = fit_cnn(
            NARROW, train, valid, card=binary_card("motif", strand=strand),
            regime=Regime(4, 16, 1e-2), seed=0,
        )  # fmt: skip
        difference = np.abs(fitted.scores(valid.sequences) - fitted.scores(other)).max()
        assert (difference < 1e-5) == same


def test_every_kind_is_learned_from_word_counts() -> None:
    rng = np.random.default_rng(0)
    codes = random_codes(rng, 700, 60)
    gc, at = counts(codes, "GC"), counts(codes, "AT")
    z = np.stack([gc - gc.mean(), at - at.mean()], 1) / 2.0
    gaps = z.copy()
    gaps[rng.random(len(z)) < 0.3, 0] = np.nan
    gaps[np.isfinite(gaps[:, 0]) & (rng.random(len(z)) < 0.3), 1] = np.nan
    psi = 1 / (1 + np.exp(-np.where(np.isnan(gaps), np.nan, z)))
    classes = np.digitize(z[:, 0], [-0.7, 0.7])
    labels = {
        ("binary", 1, "auroc"): z[:, 0] > 0,
        ("multiclass", 1, "macro_auroc"): classes,
        ("multilabel", 2, "auroc"): np.where(np.isnan(gaps), np.nan, z > 0),
        ("regression", 1, "pearson"): 50 + 7 * z[:, 0],
        ("multi_regression", 2, "spearman"): 50 + 7 * gaps,
        ("splicing", 2, "spearman"): psi,
    }
    for (kind, outputs, metric), y in labels.items():
        y = np.atleast_2d(np.asarray(y, dtype=np.float64).T).T
        fitted = fit_cnn(
            find_shape("onehot-cnn-tiny"), fold(codes[:500], y[:500]), fold(codes[500:], y[500:]),
            card=card(kind, outputs, metric), regime=SHORT, seed=0,
        )  # fmt: skip
        scores = fitted.scores(tuple(codes[500:]))
        assert scores.shape == (200, 3 if kind == "multiclass" else outputs)
        floor = 0.85 if "auroc" in metric else 0.6
        assert fitted.valid_metric > floor, kind
        if kind in ("regression", "multi_regression"):  # in the target's own unit
            assert scores.mean() == pytest.approx(50, abs=3)


def test_parts_are_read_by_one_trunk_and_know_their_place() -> None:
    # The label is in the word count of the second part; the first part only disturbs.
    rng = np.random.default_rng(1)
    codes = random_codes(rng, 700, 100)
    y = counts(codes[:, 60:], "GC") - counts(codes[:, :60], "GC")
    task_card = card("regression", 1, "pearson", parts=[60, 40], strand="stranded")
    fitted = fit_cnn(
        find_shape("onehot-cnn-tiny"), fold(codes[:500], y[:500]), fold(codes[500:], y[500:]),
        card=task_card, regime=SHORT, seed=0,
    )  # fmt: skip
    assert fitted.valid_metric > 0.7
    whole = find_shape("onehot-cnn-tiny").build(1, [], 0)
    trunk = sum(p.numel() for p in whole.trunk.parameters())
    assert sum(p.numel() for p in fitted.net.trunk.parameters()) == trunk
    parts = torch.cat([fitted.net.trunk(torch.rand(1, 4, 50)) for _ in range(2)], 1)
    assert parts.shape[1] == fitted.net.head[0].in_features


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"parts": [60, 60], "strand": "stranded"}, "add up to 120"),
        ({"parts": [40, 60]}, "change places"),
    ],
)
def test_parts_that_cannot_be_are_refused(changes: dict[str, object], said: str) -> None:
    codes, y = random_codes(np.random.default_rng(1), 20, 100), np.arange(20) % 2
    whole = fold(codes, y)
    with pytest.raises(CislensError, match=said):
        fit_cnn(
            NARROW, whole, whole, card=card("binary", 1, "auroc", **changes), regime=SHORT, seed=0
        )  # fmt: skip


def test_a_shift_moves_each_part_within_its_own_bounds() -> None:
    codes = random_codes(np.random.default_rng(0), 200, 240)
    moved = shifted(codes, [180, 60], 3, generator(0, "shift"))
    steps = {0: set(), 1: set()}
    for before, after in zip(codes, moved, strict=True):
        for number, (start, end) in enumerate([(0, 180), (180, 240)]):
            old, new = before[start:end], after[start:end]
            found = []
            for step in range(-3, 4):
                expected = np.full_like(old, N)
                expected[max(0, step) : len(old) + min(0, step)] = old[
                    max(0, -step) : len(old) - max(0, step)
                ]
                found += [step] if (expected == new).all() else []
            assert len(found) == 1
            steps[number].add(found[0])
    assert steps == {0: set(range(-3, 4)), 1: {-1, 0, 1}}
    nine = codes[:, :9]
    assert (shifted(nine, [], 3, generator(0, "shift")) == nine).all()


def test_short_sequences_are_closed_with_n() -> None:
    codes = padded((encode("ACG"), encode("TTTTT")))
    assert codes.tolist() == [[0, 1, 2, N, N], [3, 3, 3, 3, 3]]


class _WithIdleLayer(nn.Module):
    """A reduction is built, and the raw input goes on (defect D1 of the published code)."""

    def __init__(self, used: bool) -> None:
        super().__init__()
        self.used = used
        self.reduce = nn.Linear(4, 4)
        self.out = nn.Linear(4, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.out(self.reduce(x) if self.used else x)


def test_a_layer_that_is_built_but_not_used_is_refused() -> None:
    for used in (True, False):
        net = _WithIdleLayer(used)
        net(torch.rand(3, 4)).sum().backward()
        if used:
            require_every_layer_used(net)
        else:
            with pytest.raises(CislensError, match="reduce is built but not used"):
                require_every_layer_used(net)


def test_the_loop_refuses_an_unused_layer() -> None:
    class Idle(ResidualShape):
        def build(self, outputs, parts, seed):
            net = super().build(outputs, parts, seed)
            net.forgotten = nn.Linear(3, 3)
            return net

    task = motif_task(60, length=40)
    with pytest.raises(CislensError, match="forgotten is built but not used"):
        fit_cnn(
            Idle("idle", channels=8, dense=8), task.fold("train"), task.fold("valid"),
            card=task.card, regime=Regime(2, 8, 1e-3), seed=0,
        )  # fmt: skip


def test_the_graph_hash_knows_modules_and_shapes_but_not_weights() -> None:
    one, other = (NARROW.build(1, [], seed) for seed in (0, 1))
    assert graph_hash(one) == graph_hash(other)
    assert graph_hash(one) != graph_hash(NARROW.build(2, [], 0))
    assert graph_hash(_WithIdleLayer(True)) == graph_hash(_WithIdleLayer(False))  # not the path


def test_the_moving_average_is_the_weighted_sum_of_all_steps() -> None:
    net = nn.Linear(1, 1, bias=False)
    net.weight.data.fill_(1.0)
    kept = Kept(net, 0.5)
    expected = 1.0
    for step, value in enumerate([2.0, 4.0, 8.0], 1):
        net.weight.data.fill_(value)
        kept.average(step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * value
    with kept.averaged():
        assert net.weight.item() == pytest.approx(expected)
        assert kept.keep_if_better(0.3)
        assert not kept.keep_if_better(float("nan"))
    assert net.weight.item() == 8.0
    kept.restore()
    assert net.weight.item() == pytest.approx(expected)


def test_dropout_zeroes_whole_channels_at_its_share_from_its_own_seed() -> None:
    x = torch.ones(200, 50, 7)
    first, again = Dropout(0.3, seed=5)(x), Dropout(0.3, seed=5)(x)
    assert (first == again).all()
    assert (first == first[:, :, :1]).all()
    assert (first == 0).float().mean().item() == pytest.approx(0.3, abs=0.015)
    assert first.max().item() == pytest.approx(1 / 0.7)
    assert (Dropout(0.3, seed=5).eval()(x) == x).all()


def test_an_example_without_weight_is_never_seen() -> None:
    rng = np.random.default_rng(0)
    codes = random_codes(rng, 400, 40)
    y = (counts(codes, "GC") > 2).astype(float)
    wrong = np.arange(300) % 3 > 0  # two thirds of the training labels are turned around
    train, valid = (
        fold(codes[:300], np.where(wrong, 1 - y[:300], y[:300])),
        fold(codes[300:], y[300:]),
    )
    found = []
    for weights in (None, np.where(wrong, 0.0, 2.0)):
        fitted = fit_cnn(
            find_shape("onehot-cnn-tiny"), replace(train, weights=weights), valid,
            card=card("binary", 1, "auroc"), regime=Regime(40, 32, 1e-2, checks=1), seed=0,
        )  # fmt: skip
        found.append(fitted.valid_metric)
    assert found[0] < 0.5
    assert found[1] > 0.8


def test_patience_ends_a_fit_whose_metric_does_not_rise() -> None:
    rng = np.random.default_rng(0)
    codes, y = random_codes(rng, 60, 40), np.arange(60) % 2
    regime = Regime(200, 16, 3e-2, checks=20, patience=2)
    fitted = fit_cnn(
        find_shape("onehot-cnn-tiny"), fold(codes[:30], y[:30]), fold(codes[30:], y[30:]),
        card=card("binary", 1, "auroc"), regime=regime, seed=0,
    )  # fmt: skip
    assert fitted.steps < 200
    assert fitted.steps % 10 == 0
