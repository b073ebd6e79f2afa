"""Kept features are those of the representation, and nothing is embedded twice."""

import multiprocessing
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from cislens.genome.codes import Codes
from cislens.models.presets import preset_config
from cislens.models.profile import ProfileModel
from cislens.representations.baselines import KmerCounts
from cislens.representations.cache import aside, cached, saved
from cislens.representations.contract import (
    Binned,
    Features,
    MaskedLikelihood,
    Tunable,
    Twinned,
    Viewed,
)
from cislens.representations.encoder import EncoderEmbedding

RNG = np.random.default_rng(1)
SEQUENCES = [RNG.integers(0, 4, 64).astype(np.uint8) for _ in range(40)]


class Counted:
    """A representation of two views that counts what it is asked for."""

    name, kind, parameters = "counted", "trained", 1
    views = ("a.mean", "b.mean")

    def __init__(self, digest: str = "counted/1") -> None:
        self.digest = digest
        self.asked: list[tuple[int, tuple[str, ...]]] = []

    def embed(self, sequences, species, stranded=False) -> Features:
        return self.embed_views(sequences, species, stranded, self.views[-1:])["b.mean"]

    def embed_views(self, sequences, species, stranded, views) -> dict[str, Features]:
        self.asked.append((len(sequences), tuple(views)))
        x = np.stack([[c.sum(), c[0], len(c)] for c in sequences]).astype(np.float32)
        return {view: x + ord(view[0]) + 1000 * stranded for view in views}


def embed_part(folder: Path, first: int) -> Features:
    return cached(Counted(), folder).embed(SEQUENCES[first : first + 20], "yeast")


def test_only_what_is_missing_is_embedded(tmp_path: Path) -> None:
    inner, exact = Counted(), Counted().embed(SEQUENCES, None)
    wrapped = cached(inner, tmp_path)
    assert (wrapped.name, wrapped.kind, wrapped.parameters) == ("counted", "trained", 1)
    assert wrapped.digest == inner.digest
    twice = [SEQUENCES[3], SEQUENCES[1], SEQUENCES[3]]
    assert np.array_equal(wrapped.embed(twice, None), exact[[3, 1, 3]])
    assert np.array_equal(wrapped.embed(SEQUENCES, None), exact)
    assert np.array_equal(wrapped.embed(SEQUENCES[::-1], None), exact[::-1])
    assert [count for count, _ in inner.asked] == [2, 38]
    later = Counted()
    assert np.array_equal(cached(later, tmp_path).embed(SEQUENCES, None), exact)
    assert later.asked == []


def test_what_decides_a_feature_decides_where_it_is_kept(tmp_path: Path) -> None:
    for digest in ("counted/1", "counted/2"):
        for species in ("yeast", None):
            for stranded in (False, True):
                inner = Counted(digest)
                found = cached(inner, tmp_path).embed(SEQUENCES, species, stranded)
                assert inner.asked == [(40, ("b.mean",))]
                assert np.array_equal(found, Counted().embed(SEQUENCES, None, stranded))
    assert len(list(tmp_path.iterdir())) == 8


def test_views_are_kept_one_by_one(tmp_path: Path) -> None:
    inner = Counted()
    wrapped = cached(inner, tmp_path)
    assert isinstance(wrapped, Viewed)
    wrapped.embed(SEQUENCES, None)
    both = wrapped.embed_views(SEQUENCES, None, False, wrapped.views)
    assert inner.asked == [(40, ("b.mean",)), (40, ("a.mean",))]
    exact = Counted().embed_views(SEQUENCES, None, False, Counted.views)
    assert {view: np.array_equal(both[view], exact[view]) for view in both} == {
        "a.mean": True, "b.mean": True,
    }  # fmt: skip


def test_capabilities_are_those_of_the_representation(tmp_path: Path) -> None:
    config = preset_config("enformer-tiny", {"yeast": ["a"]}, dim=24, stem_dim=8, depth=1)
    torch.manual_seed(0)
    inner = EncoderEmbedding(ProfileModel(config).encoder, "e")
    wrapped, plain = cached(inner, tmp_path), cached(KmerCounts(2), tmp_path)
    for contract in (Viewed, Twinned, Binned, Tunable, MaskedLikelihood):
        assert isinstance(wrapped, contract) == isinstance(inner, contract)
        assert not isinstance(plain, contract)
    codes = SEQUENCES[:2]
    assert np.array_equal(wrapped.embed_bins(codes, None), inner.embed_bins(codes, None))
    assert np.array_equal(wrapped.embed(codes, None), inner.embed(codes, None))
    twin = wrapped.twin(1)
    assert (twin.kind, twin.digest) == ("random", inner.twin(1).digest)
    assert np.array_equal(twin.embed(codes, None), inner.twin(1).embed(codes, None))
    assert np.array_equal(plain.embed(codes, None), KmerCounts(2).embed(codes, None))
    assert len(list(tmp_path.iterdir())) == 3


def test_threads_and_processes_add_to_one_cache(tmp_path: Path) -> None:
    exact = Counted().embed(SEQUENCES, None)
    shared = cached(Counted(), tmp_path / "threads")
    with ThreadPoolExecutor(4) as pool:
        parts = list(
            pool.map(lambda i: shared.embed(SEQUENCES[i : i + 20], "yeast"), [0, 10, 20] * 4)
        )
    for part, first in zip(parts, [0, 10, 20] * 4, strict=True):
        assert np.array_equal(part, exact[first : first + 20])
    with multiprocessing.get_context("fork").Pool(2) as pool:
        jobs = [(tmp_path / "processes", first) for first in (0, 10, 20, 0)]
        for part, (_, first) in zip(pool.starmap(embed_part, jobs), jobs, strict=True):
            assert np.array_equal(part, exact[first : first + 20])
    for name in ("threads", "processes"):
        inner = Counted()
        assert np.array_equal(cached(inner, tmp_path / name).embed(SEQUENCES, "yeast"), exact)
        assert inner.asked == []


@pytest.mark.parametrize("damage", [lambda data: data[:-200], lambda data: b"", None])
def test_a_damaged_file_is_made_again(tmp_path: Path, damage) -> None:
    cached(Counted(), tmp_path).embed(SEQUENCES, None)
    (file,) = tmp_path.rglob("*.npz")
    data = bytearray(file.read_bytes())
    data[-400] ^= 1  # in the features
    file.write_bytes(data if damage is None else damage(file.read_bytes()))
    inner = Counted()
    again = cached(inner, tmp_path).embed(SEQUENCES, None)
    assert np.array_equal(again, Counted().embed(SEQUENCES, None))
    assert [count for count, _ in inner.asked] == [40]
    assert len(list(tmp_path.rglob("*.npz"))) == 1


def test_a_task_is_looked_up_in_milliseconds(tmp_path: Path) -> None:
    class Wide(Counted):
        def embed_views(self, sequences: list[Codes], *_) -> dict[str, Features]:
            return {"b.mean": np.zeros((len(sequences), 512), np.float32)}

    sequences = [RNG.integers(0, 4, 100).astype(np.uint8) for _ in range(5000)]
    cached(Wide(), tmp_path).embed(sequences, None)
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        cached(Wide(), tmp_path).embed(sequences, None)
        seconds.append(time.perf_counter() - began)
    assert min(seconds) < 0.5  # about 0.05 on a quiet core


def test_what_was_looked_up_had_a_cost_and_aside_nothing_is_kept(tmp_path: Path) -> None:
    class Slow(Counted):
        def embed_views(self, *given) -> dict[str, Features]:
            time.sleep(0.05)
            return super().embed_views(*given)

    sequences = SEQUENCES[:6]
    one, other = (cached(Slow(), tmp_path) for _ in range(2))
    with saved() as first:
        one.embed(sequences, None)
    with saved() as second:
        other.embed(sequences[:3], None)
    with saved() as third:
        other.embed(sequences[3:], None)
    assert first.seconds == 0
    assert second.seconds == pytest.approx(third.seconds)
    assert 0.05 <= second.seconds + third.seconds < 1
    with aside(), saved() as none:
        found = one.embed(sequences, None)
        one.embed(SEQUENCES[10:12], None)
    assert none.seconds == 0
    assert (found == other.embed(sequences, None)).all()
    assert len(list(tmp_path.glob("*/*.npz"))) == 1
