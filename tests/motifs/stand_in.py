"""A region store in memory, of a synthetic genome whose rules are known.

Three chromosomes of 200 kb in isochores of changing GC content; regions every 500 bp hold planted
sites of eight factors, in domains that favor three of them; each of three cell types has four
active factors, and a region is open in it exactly if it holds a site of one of these.
"""

from pathlib import Path

import numpy as np
import polars as pl

from cislens.genome.codes import gc_content, one_hot, reverse_complement
from cislens.genome.sampling import cpg_observed_expected

SITES = (
    "TGACTCAT", "CACGTGAC", "GATAAGGA", "TTGCGCAA", "CCGGAAGT", "TAATTAGC", "AGGTCAAA", "GCCACGTA",
)  # fmt: skip
CELLS = ("liver", "blood", "brain")
ACTIVE = {"liver": (0, 1, 2, 3), "blood": (2, 3, 4, 5), "brain": (4, 5, 6, 7)}
_DOMAIN, _SPACING = 20_000, 500


class StandInStore:
    """Attributes and methods of `cislens.motifs.store.RegionStore` that readers use.

    `planted_NT` are the sites of each region. chrA and chrB are train; the first half of chrC is
    valid, the second test. `test_cells` names cell types to be held out.

    Tests elsewhere load this file by its path, as `tests/motifs/conftest.py` does.
    """

    path = Path("stand-in")
    assembly = "synthetic"
    digest = constants_digest = "0" * 64

    def __init__(
        self,
        width: int = 256,
        margin: int = 32,
        chrom_size: int = 200_000,
        seed: int = 0,
        expression: bool = False,
        test_cells: tuple[str, ...] = (),
        gc_spread: float = 0.12,
    ) -> None:
        rng = np.random.default_rng(seed)
        self.width, self.margin = width, margin
        self.chrom_sizes = dict.fromkeys(("chrA", "chrB", "chrC"), chrom_size)
        self.manifest = {"sizes": {}}
        tables, windows, planted = [], [], []
        for chrom in self.chrom_sizes:
            codes = _isochores(chrom_size, gc_spread, rng)
            starts = np.arange(_SPACING, chrom_size - _SPACING, _SPACING)
            planted.append(_plant(codes, starts, width, rng))
            offsets = np.arange(-margin, width + margin)
            windows.append(codes[starts[:, None] + offsets])
            split = np.full(len(starts), "train")
            if chrom == "chrC":
                split = np.where(starts < chrom_size // 2, "valid", "test")
            tables.append(pl.DataFrame({"chrom": chrom, "start": starts, "split": split}))
        self.planted_NT = np.concatenate(planted)
        active_CT = np.array([[t in ACTIVE[cell] for t in range(len(SITES))] for cell in CELLS])
        open_RC = (self.planted_NT.astype(int) @ active_CT.T.astype(int)) > 0
        kept = open_RC.any(1)
        self.planted_NT, self.is_open = self.planted_NT[kept], open_RC[kept]
        self._windows = np.concatenate(windows)[kept]
        self.regions = self._table(pl.concat(tables).filter(pl.Series(kept)))
        self.cells = pl.DataFrame(
            {
                "cell_id": CELLS,
                "split": ["test" if cell in test_cells else "train" for cell in CELLS],
                "regions": self.is_open.sum(0),
            }
        )
        self.motifs = pl.DataFrame(
            {
                "motif_id": [f"M{t}" for t in range(len(SITES))],
                "name": [f"F{t}" for t in range(len(SITES))],
                "members": [[f"M{t}"] for t in range(len(SITES))],
                "factors": [[f"F{t}"] for t in range(len(SITES))],
                "leaf": np.arange(len(SITES)),
            }
        )
        self.motif_ids = tuple(self.motifs["motif_id"])
        self._raw = _occupancy(self._windows[:, margin : margin + width])
        train = (self.regions["split"] == "train").to_numpy()
        self._values = _beside_composition(self._raw, self.regions, train)
        bound_RC = self.planted_NT.astype(int) @ active_CT.T.astype(int)
        strength = bound_RC + self.is_open * rng.random(bound_RC.shape)
        self.access = _standardized(np.log1p(strength), train).astype(np.float32)
        self.expression = None
        if expression:
            tpm = active_CT.T * 2.0 - 1 + 0.1 * rng.standard_normal(active_CT.T.shape)
            self.expression = tpm.astype(np.float32)

    def sequence(self, rows):
        return self._windows[np.asarray(rows)]

    def raw(self, rows):
        return self._raw[np.asarray(rows)].astype(np.float16)

    def motif_values(self, rows):
        return self._values[np.asarray(rows)]

    def require_same(self, constants_digest, motif_ids):
        assert (constants_digest, tuple(motif_ids)) == (self.constants_digest, self.motif_ids)

    def _table(self, regions: pl.DataFrame) -> pl.DataFrame:
        codes = self._windows[:, self.margin : self.margin + self.width]
        ends = regions["start"] + self.width
        ids = [
            f"{self.assembly}:{chrom}:{start}-{end}"
            for chrom, start, end in zip(regions["chrom"], regions["start"], ends, strict=True)
        ]
        return regions.select(
            pl.Series("region_id", ids),
            "chrom",
            "start",
            ends.alias("end"),
            "split",
            block=pl.col("start") // _DOMAIN,
            gc=pl.Series(gc_content(codes)),
            cpg=pl.Series(cpg_observed_expected(codes)),
            repeat_fraction=pl.lit(0.0),
            homology=pl.int_range(pl.len()),
            cells=pl.Series(self.is_open.sum(1)),
        )


def _isochores(size: int, spread: float, rng: np.random.Generator) -> np.ndarray:
    """Random bases whose GC content changes every 10 kb."""
    gc = np.repeat(np.clip(rng.normal(0.48, spread, -(-size // 10_000)), 0.2, 0.8), 10_000)[:size]
    strong = rng.random(size) < gc
    return np.where(strong, rng.integers(1, 3, size), 3 * rng.integers(0, 2, size)).astype(np.uint8)


def _plant(
    codes: np.ndarray, starts: np.ndarray, width: int, rng: np.random.Generator
) -> np.ndarray:
    """Write 0 to 3 sites of the domain's factors into each region, on either strand."""
    planted = np.zeros((len(starts), len(SITES)), bool)
    sites = np.array([["ACGT".index(base) for base in site] for site in SITES], np.uint8)
    for row, start in enumerate(starts.tolist()):
        domain = np.random.default_rng([start // _DOMAIN, int(codes[0])])
        favored = domain.permutation(len(SITES))[:3]
        places = rng.permutation(width // 8)[:3] * 8
        for place in places[: int(rng.integers(0, 4))]:
            factor = int(rng.choice(favored) if rng.random() < 0.8 else rng.integers(len(SITES)))
            site = sites[factor]
            if rng.random() < 0.5:
                site = reverse_complement(site)
            codes[start + place : start + place + 8] = site
            planted[row, factor] = True
    return planted


def _occupancy(codes_NL: np.ndarray) -> np.ndarray:
    """Log mean of exp(matches) over placements and strands."""
    sites = np.array([["ACGT".index(base) for base in site] for site in SITES], np.uint8)
    total = 0.0
    for strand in (sites, reverse_complement(sites)):
        kernel_TK = one_hot(strand).transpose(0, 2, 1).reshape(len(SITES), -1) * 2.5
        x_NL4 = one_hot(codes_NL).transpose(0, 2, 1)
        pieces = np.lib.stride_tricks.sliding_window_view(x_NL4, (8, 4), axis=(1, 2))[:, :, 0]
        scores = pieces.reshape(*pieces.shape[:2], -1) @ kernel_TK.T
        total = total + np.exp(scores - 20).sum(1)
    return np.log(total / (2 * scores.shape[1]))


def _beside_composition(raw_NT: np.ndarray, regions: pl.DataFrame, train: np.ndarray) -> np.ndarray:
    gc, cpg = regions["gc"].to_numpy(), regions["cpg"].to_numpy()
    design = np.stack([np.ones_like(gc), gc, gc**2, cpg], 1)
    beta = np.linalg.lstsq(design[train], raw_NT[train], rcond=None)[0]
    return np.clip(_standardized(raw_NT - design @ beta, train), -6, 6).astype(np.float32)


def _standardized(values: np.ndarray, train: np.ndarray) -> np.ndarray:
    return (values - values[train].mean(0)) / values[train].std(0)
