from pathlib import Path
from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from cislens.effects.track_model import TrackModel
from cislens.effects.tracks import predict_tracks
from cislens.effects.variants.scores import Scoring, VariantScorer, score_variants
from cislens.errors import CislensError
from cislens.genome.codes import decode, one_hot, reverse_complement
from cislens.genome.reference import Genome
from cislens.models.contract import Embedding, Encoder, LocalEncoder
from cislens.models.presets import preset_config
from cislens.models.profile import ProfileModel, build_model
from cislens.signal.datacard import DataCard
from cislens.signal.tracks import Track, track_table

BIN, CROP, LENGTH, SIZE = 16, 1, 160, 1000
TRACKS = track_table(
    [
        Track("ATAC", "a.bw", "yeast", assay="ATAC", scale=2.0, clip=9, clip_mode="soft"),
        Track("plus", "p.bw", "yeast", assay="CAGE", strand="+", strand_pair="minus"),
        Track("minus", "m.bw", "yeast", assay="CAGE", strand="-", strand_pair="plus"),
    ]
)
IDS = ("ATAC", "plus", "minus")
GENES = pl.DataFrame(
    {"chrom": "chr1", "start": [300, 500], "end": [420, 700], "name": ["x", "y"],
     "strand": ["+", "-"]}
)  # fmt: skip


class CountingEncoder(Encoder):
    """The vector of a bin is how often A, C, G and T stand in it."""

    bin_size, dim, species = BIN, 4, ()

    def __init__(self, substitutes: bool) -> None:
        super().__init__()
        self.anything = torch.nn.Parameter(torch.zeros(1))
        self.substitutes = substitutes
        self.read: list[Tensor] = []

    def forward(self, x_B4L: Tensor, species_B: Tensor | None = None) -> Embedding:
        assert not self.training
        self.read += list(x_B4L)
        count_BN4 = x_B4L.unflatten(2, (-1, BIN)).sum(3).transpose(1, 2)
        return Embedding(count_BN4, BIN, count_BN4.sum(2) > 0)

    def local(self, x_B4L: Tensor, species_B: Tensor | None = None) -> LocalEncoder | None:
        return Substituting(self, x_B4L) if self.substitutes else None


class Substituting(LocalEncoder):
    """Reads the changed windows whole."""

    def __init__(self, encoder: CountingEncoder, x_B4L: Tensor) -> None:
        self.encoder, self.x_B4L = encoder, x_B4L

    def reference(self) -> Embedding:
        found: Embedding = self.encoder(self.x_B4L)
        return found

    def embeddings(self, row_M: Tensor, position_M: Tensor, base_M: Tensor) -> Embedding:
        x_M4L, rows = self.x_B4L[row_M].clone(), torch.arange(len(row_M))
        assert bool((x_M4L[rows, :, position_M].sum(1) == 1).all())
        x_M4L[rows, :, position_M] = 0
        x_M4L[rows, base_M, position_M] = 1
        found: Embedding = self.encoder(x_M4L)
        return found


class CountingModel(torch.nn.Module):
    """C and G of a bin (ATAC, scaled by 2), its G (plus) and its C (minus)."""

    species = ("yeast",)
    config = SimpleNamespace(crop=CROP, tracks={"yeast": IDS})

    def __init__(self, substitutes: bool = True) -> None:
        super().__init__()
        self.encoder = CountingEncoder(substitutes)

    def view(self, species: str) -> None:
        if species != "yeast":
            raise CislensError(f"no species {species!r}")

    def forward(self, x_B4L: Tensor, species: str, crop: bool) -> Tensor:
        return self.rates_of(self.encoder(x_B4L), species, crop)

    def rates_of(self, embedding: Embedding, species: str, crop: bool) -> Tensor:
        assert crop and species == "yeast"
        count_BN4 = embedding.values_BND[:, CROP:-CROP]
        c_BN, g_BN = count_BN4[..., 1], count_BN4[..., 2]
        return torch.stack([2 * (c_BN + g_BN), g_BN, c_BN], dim=1)


def counting(substitutes: bool = True) -> TrackModel:
    return TrackModel(CountingModel(substitutes), DataCard(LENGTH, TRACKS), "counting")  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Genome:
    rng = np.random.default_rng(3)
    path: Path = tmp_path_factory.mktemp("genome") / "small.fa"
    names = ("chr1", "chr2")
    path.write_text("".join(f">{n}\n{''.join(rng.choice(list('ACGT'), SIZE))}\n" for n in names))
    return Genome(path)


@pytest.fixture(scope="module")
def trained() -> TrackModel:
    """A net with weights that make effects of a size like that of a trained one."""
    torch.manual_seed(0)
    changes = {"dim": 32, "stem_dim": 16, "bin_size": BIN, "depth": 1}
    net = build_model(preset_config("enformer-tiny", {"yeast": IDS}, crop=CROP, **changes))
    with torch.no_grad():
        for head in net.heads:
            head.weight *= 20
    return TrackModel(net, DataCard(LENGTH, TRACKS), "trained")


def variant(genome: Genome, chrom: str, first: int, n_ref: int, alt: str) -> dict[str, object]:
    """`alt` with `?` for the first base of the reference, and `!` for another one than it."""
    ref = decode(genome.fetch(chrom, first, first + n_ref))
    other = "ACGT"[("ACGT".index(ref[0]) + 1) % 4]
    alt = alt.replace("?", ref[0]).replace("!", other)
    return {"chrom": chrom, "pos": first + 1, "ref": ref, "alt": alt}


def table(genome: Genome, *rows: tuple[str, int, int, str]) -> pl.DataFrame:
    return pl.DataFrame([variant(genome, *row) for row in rows])


def mixed(genome: Genome) -> pl.DataFrame:
    """Substitutions of one base and of some, insertions and deletions, near the ends as well."""
    rng = np.random.default_rng(1)
    rows = []
    for chrom in ("chr2", "chr1"):
        for first in rng.integers(0, SIZE - 60, 12).tolist():
            rows += [(chrom, first, 1, "!"), (chrom, first, 2, "!A")]
            rows += [(chrom, first, 1, "?GC"), (chrom, first, int(rng.integers(2, 50)), "?")]
    rows += [("chr1", 0, 1, "!"), ("chr1", SIZE - 1, 1, "!"), ("chr1", SIZE - 1, 1, "?GGG")]
    return pl.DataFrame(variant(genome, *row) for row in rows)


def test_of_a_local_model_only_the_bin_of_the_change_changes(genome: Genome) -> None:
    """Counting bases, the sums differ by what the event's own bin counts, and by no more."""
    options = {"average": "none", "step": 4 * BIN, "center": 1}
    for first, n_ref, alt in [(300, 1, "?GGG"), (303, 4, "?"), (335, 1, "?C"), (500, 9, "?ACGTT")]:
        variants = table(genome, ("chr1", first, n_ref, alt))
        alt = variants["alt"][0]
        found = score_variants(counting(), genome, variants, **options)
        place = first + 1 + min(n_ref, len(alt)) - 1  # behind what both alleles have
        begin = place // BIN * BIN
        whole = decode(genome.chromosome("chr1"))
        changed = whole[:first] + alt + whole[first + n_ref :]
        assert (first + n_ref) // BIN == begin // BIN
        before, after = whole[begin : begin + BIN], changed[begin : begin + BIN]
        difference = [after.count(base) - before.count(base) for base in "GC"]
        assert found.by_track["difference"][0, 1:].tolist() == difference
        assert found.by_track["profile_l2"][0, 1:].tolist() == np.abs(difference).tolist()


def test_a_deletion_takes_away_the_signal_of_whole_bins(genome: Genome) -> None:
    """Of 48 bases from the first of a bin three bins go; their neighbors stay as they are."""
    variants = table(genome, ("chr1", 16 * 30 - 1, 49, "?"))
    found = score_variants(counting(), genome, variants, average="rc", step=BIN)
    gone = variants["ref"][0][1:]
    expected = [-gone.count("G"), -gone.count("C")]
    assert found.by_track["difference"][0, 1:].tolist() == expected


def test_scores_are_those_of_the_units_of_the_tracks(genome: Genome) -> None:
    """The soft clip of ATAC is undone: 2 (c + g) above 9 comes back from its square."""
    variants = table(genome, ("chr1", 400, 1, "!"))
    found = score_variants(counting(), genome, variants, average="none", center=1, genes=GENES)
    begin = 400 // BIN * BIN
    whole = decode(genome.chromosome("chr1"))
    changed = whole[:400] + variants["alt"][0] + whole[401:]

    def value(text: str) -> float:
        rate = 2 * (text.count("C") + text.count("G"))
        return (rate if rate <= 9 else 8 + (rate - 8) ** 2) / 2

    ref, alt = value(whole[begin : begin + BIN]), value(changed[begin : begin + BIN])
    assert found.by_track["difference_center"][0, 0] == alt - ref
    assert found.by_track["log_fold_center"][0, 0] == pytest.approx(np.log((1 + alt) / (1 + ref)))
    assert found.by_track["profile_l2"][0, 0] == pytest.approx(abs(alt - ref))
    assert found.variants["gene"].to_list() == [None]
    assert np.isnan(found.by_track["difference_tss"]).all()


def test_the_start_of_a_gene_is_told_apart_from_the_rest(genome: Genome) -> None:
    rows = [("chr1", 300, 1, "!"), ("chr1", 340, 1, "!"), ("chr1", 690, 1, "!")]
    found = score_variants(
        counting(), genome, table(genome, *rows), genes=GENES, tss_reach=1, average="none"
    )
    assert found.variants["gene"].to_list() == ["x", "x", "y"]
    assert found.variants["tss_distance"].to_list() == [0, 40, 9]
    whole, tss = found.by_track["difference"], found.by_track["difference_tss"]
    assert tss[0].tolist() == whole[0].tolist()  # in the bin of the start
    assert not tss[1].any()  # in the window, beyond the reach
    assert whole[1].any()


@pytest.mark.parametrize("average", ["none", "rc", "rc,shift"])
def test_scores_are_those_of_passes_of_whole_windows(
    genome: Genome, trained: TrackModel, average: str
) -> None:
    """Without indels; sharing windows and recomputing locally change nothing but rounding."""
    variants = mixed(genome).filter(pl.col("ref").str.len_bytes() == pl.col("alt").str.len_bytes())
    found = score_variants(trained, genome, variants, average=average)
    shifts = (1, 0, -1) if "shift" in average else (0,)
    with VariantScorer(trained, genome) as scorer:
        start_n = scorer.layout.starts(variants["pos"].to_numpy() - 1)
    pair = [0, 2, 1]

    def rates(chrom: str, start: int, at: int, alt: str) -> np.ndarray:
        parts = []
        for shift in shifts:
            codes = genome.fetch(chrom, start + shift, start + shift + LENGTH)
            place = at - start - shift
            codes[place : place + len(alt)] = ["ACGT".index(base) for base in alt]
            with torch.no_grad():
                x = torch.from_numpy(one_hot(codes[None]))
                y = torch.from_numpy(one_hot(reverse_complement(codes)[None]))
                parts.append(trained.net.eval()(x, "yeast", crop=True)[0].numpy())
                if "rc" in average:
                    turned = trained.net(y, "yeast", crop=True)[0].numpy()
                    parts.append(turned[pair][:, ::-1])
        mean = np.mean(parts, axis=0)
        clipped = mean[0] > 9
        mean[0] = np.where(clipped, 8 + (mean[0] - 8) ** 2, mean[0]) / 2
        return mean.sum(1)

    for row, (chrom, pos, ref, alt) in enumerate(variants.rows()):
        before = rates(chrom, int(start_n[row]), pos - 1, ref)
        after = rates(chrom, int(start_n[row]), pos - 1, alt)
        np.testing.assert_allclose(found.by_track["difference"][row], after - before, atol=2e-4)
        np.testing.assert_allclose(
            found.by_track["log_fold"][row], np.log((1 + after) / (1 + before)), atol=1e-5
        )


@pytest.mark.parametrize("average", ["none", "rc", "rc,shift"])
def test_local_substitutions_give_what_whole_windows_give(genome: Genome, average: str) -> None:
    """Both strands and shifts: the base is put where it stands in each view."""
    variants = mixed(genome)
    options = {"average": average, "center": 40, "genes": GENES}
    one = score_variants(counting(True), genome, variants, **options)
    two = score_variants(counting(False), genome, variants, **options)
    for name, values in one.by_track.items():
        np.testing.assert_allclose(values, two.by_track[name], atol=1e-5, err_msg=name)
    for name, values in one.scalars.items():
        np.testing.assert_allclose(values, two.scalars[name], atol=1e-5, err_msg=name)


@given(seed=st.integers(0, 99), batch_size=st.integers(1, 9))
@settings(max_examples=8, suppress_health_check=list(HealthCheck))
def test_scores_depend_on_neither_order_nor_batch(
    genome: Genome, trained: TrackModel, seed: int, batch_size: int
) -> None:
    variants = mixed(genome)
    order = np.random.default_rng(seed).permutation(variants.height)[:20]
    expected = score_variants(trained, genome, variants, center=40)
    found = score_variants(trained, genome, variants[order], center=40, batch_size=batch_size)
    assert found.variants.equals(variants[order])
    for name, values in found.by_track.items():
        np.testing.assert_allclose(values, expected.by_track[name][order], atol=2e-4, err_msg=name)


def test_equal_alleles_have_no_effect_at_all(genome: Genome, trained: TrackModel) -> None:
    variants = pl.concat([mixed(genome), mixed(genome).with_columns(alt=pl.col("ref"))])
    found = score_variants(trained, genome, variants)
    n = variants.height // 2
    for values in (*found.by_track.values(), *found.scalars.values()):
        assert np.abs(values[:n]).max() > 0
        assert not values[n:].any()


def test_each_distinct_window_is_read_once(genome: Genome) -> None:
    """Sixteen variants of one window: its reference once a strand, an alternate each."""
    rows = [("chr1", first, 1, "!") for first in range(470, 486)]
    model = counting(substitutes=False)
    score_variants(model, genome, table(genome, *rows), step=2 * BIN)
    encoder = model.net.encoder
    assert isinstance(encoder, CountingEncoder)
    assert len(encoder.read) == 2 * (1 + 16)


def test_bins_are_those_of_predicted_tracks(genome: Genome, trained: TrackModel) -> None:
    """With windows as far apart as predictions have them, the reference's bins are the same."""
    with VariantScorer(trained, genome, Scoring(step=8 * BIN)) as scorer:
        (start,) = scorer.layout.starts(np.array([500])).tolist()
        reader = scorer._reader
        assert reader is not None
        codes = genome.fetch("chr1", start, start + LENGTH)[None]
        rates_NT = reader.whole(codes).rates_BNT[0]
    first = start + CROP * BIN
    where = pl.DataFrame({"chrom": ["chr1"], "start": [first], "end": [first + 8 * BIN]})
    predicted = predict_tracks(
        trained.net, genome, where, "yeast", TRACKS, length=LENGTH, average_strands=True
    )
    np.testing.assert_allclose(rates_NT / BIN, predicted.values_RT, rtol=1e-5, atol=1e-6)


def test_some_tracks_are_those_of_all(genome: Genome, trained: TrackModel) -> None:
    variants = mixed(genome)[:9]
    every = score_variants(trained, genome, variants)
    some = score_variants(trained, genome, variants, tracks='strand == "-"', scores=["log_fold"])
    assert some.tracks is not None
    assert some.tracks.frame["id"].to_list() == ["minus"]
    assert list(some.by_track) == ["log_fold"]
    assert not some.scalars
    np.testing.assert_allclose(
        some.by_track["log_fold"], every.by_track["log_fold"][:, 2:], atol=1e-5
    )


def test_embedding_distances_are_of_aligned_bins(genome: Genome) -> None:
    """One base for another changes two counts of one bin by 1: the distances say so."""
    variants = table(genome, ("chr1", 400, 1, "!"), ("chr1", 400, 1, "?GGG"))
    found = score_variants(counting(), genome, variants, average="none")
    assert found.scalars["embedding_l1"][0] == 2
    assert found.scalars["embedding_l2"][0] == pytest.approx(np.sqrt(2))
    assert found.scalars["embedding_l1"][1] <= 6  # three bases in, three out of one bin


def test_mode_and_weights_are_left_as_they_were(genome: Genome, trained: TrackModel) -> None:
    net: ProfileModel = trained.net
    net.train()
    score_variants(trained, genome, mixed(genome)[:2])
    assert net.training
    assert all(parameter.grad is None for parameter in net.parameters())


def test_no_variant_gives_no_row(genome: Genome, trained: TrackModel) -> None:
    found = score_variants(trained, genome, mixed(genome)[:0], genes=GENES)
    assert found.table().height == 0
    assert found.by_track["log_fold"].shape == (0, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"species": "fly"}, "no species 'fly'"),
        ({"scores": ["log_fold_center"]}, "no score 'log_fold_center' here"),
        ({"scores": ["llr"]}, "llr a model of hidden bases"),
        ({"tracks": 'assay == "ATAK"'}, "ATAC"),
        ({"center": 0}, "center is 0"),
        ({"length": 512}, "knows the length"),
        ({"step": 7}, "windows every 7 bp"),
        ({"average": "both"}, "none of rc, shift"),
        ({"device": "cuda:99"}, "GPUs"),
    ],
)
def test_what_the_model_does_not_have_is_refused(
    genome: Genome, trained: TrackModel, options: dict[str, object], message: str
) -> None:
    with pytest.raises(CislensError, match=message):
        score_variants(trained, genome, mixed(genome)[:1], **options)  # type: ignore[arg-type]


def test_a_table_that_was_not_checked_is_refused(genome: Genome, trained: TrackModel) -> None:
    wrong = mixed(genome)[:1].with_columns(ref=pl.col("alt"), alt=pl.col("ref"))
    with pytest.raises(
        CislensError, match=r"1 of 1 variants: each has a ref that is not what .* the first chr2"
    ):
        score_variants(trained, genome, wrong)
    with pytest.raises(CislensError, match="no column 'alt'"):
        score_variants(trained, genome, wrong.drop("alt"))
