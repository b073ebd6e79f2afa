"""What motifs do to a target in backgrounds made from the regions of a genome.

    OUT/manifest.json     what the table is a function of; written first, so that it is known whose
    OUT/importance.tsv

Dimensions: n window, K background, L base.
"""

import json
import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
import polars as pl

import cislens
from cislens.effects.attribution.attribute import BATCH_SIZE
from cislens.effects.attribution.importance import (
    BACKGROUNDS,
    global_importance,
    matched_backgrounds,
    shuffled_backgrounds,
)
from cislens.effects.attribution.parts import MANIFEST, MAPS, WORK, require_folder, require_same
from cislens.effects.attribution.plan import Plan
from cislens.effects.attribution.subject import predictor
from cislens.effects.devices import running
from cislens.errors import CislensError, nearest
from cislens.files import manifest_format, read_json, write_atomic
from cislens.genome.codes import Codes, N
from cislens.genome.intervals import Spans
from cislens.motifs.library import MotifLibrary, motifs_digest
from cislens.motifs.sites import Motif, consensus_motif, find_motif
from cislens.randomness import generator

logger = logging.getLogger("cislens")

FORMAT, SCHEMA_VERSION = "cislens importance", 1
TABLE = "importance.tsv"
Background = Literal["shuffled", "genome"]
_IUPAC = frozenset("ACGTURYSWKMBDHVN")
_POOL = 10  # windows that are drawn for each background
_ROUNDS = 20


def asked_motifs(names: Sequence[str], library: MotifLibrary | None) -> tuple[Motif, ...]:
    """The motifs that are meant: by IUPAC letters, else by identifier or name in a library.

    Raises:
        CislensError: for a name that is neither, or without a library.
    """
    found = []
    for name in dict.fromkeys(names):
        if name and set(name.upper()) <= _IUPAC:
            found.append(consensus_motif(name))
        elif library is None:
            raise CislensError(
                f"{name!r} is not written in IUPAC letters; give --motifs, the library to find it "
                "in."
            )
        else:
            found.append(find_motif(library.motifs, name))
    return tuple(found)


@dataclass(frozen=True)
class Insertion:
    """A table of the effects of motifs, as a folder.

    Attributes:
        plan: its target, regions, strands and seed; its method and what is made of maps have no
            part here.
        background, count: see `insert_motifs`.
    """

    plan: Plan
    motifs: tuple[Motif, ...]
    background: Background = "shuffled"
    count: int = BACKGROUNDS

    def check(self) -> None:
        """Refuse what cannot work before anything is computed.

        Raises:
            CislensError: for an unknown background, or a folder that holds something else.
        """
        _require_background(self.background)
        out = self.plan.out
        require_folder(out)
        if manifest_format(out) == FORMAT:
            held = read_json(out / MANIFEST, "manifest of the maps").get("settings", {})
            require_same(held, self.settings(), out)
            return
        foreign = [name for name in (TABLE, MANIFEST, *MAPS, WORK) if (out / name).exists()]
        if foreign:
            raise CislensError(
                f"{out} holds a {foreign[0]} that is not of inserted motifs; give another folder."
            )

    def settings(self) -> dict[str, Any]:
        """What the table is a function of."""
        maps = self.plan.settings()
        kept = ("model", "regions", "width", "target", "species", "average", "probe")
        return {
            **{name: maps[name] for name in kept}, "seed": self.plan.question.seed,
            "insert": [motif.name for motif in self.motifs], "motifs": motifs_digest(self.motifs),
            "background": self.background, "backgrounds": self.count,
        }  # fmt: skip

    def run(self) -> pl.DataFrame:
        """The table, computed unless it is there, in numbers of six digits.

        Raises:
            CislensError: as `check` and `insert_motifs`.
        """
        self.check()
        path = self.plan.out / TABLE
        if not path.exists():
            found = insert_motifs(
                self.plan, self.motifs, background=self.background, count=self.count
            )
            numbers = found.with_columns(pl.selectors.float().round_sig_figs(6))
            manifest = {
                "format": FORMAT, "schema_version": SCHEMA_VERSION,
                "cislens": cislens.__version__, "files": [TABLE], "settings": self.settings(),
            }  # fmt: skip
            self.check()  # what another process wrote meanwhile
            write_atomic(self.plan.out / MANIFEST, json.dumps(manifest, indent=1) + "\n")
            write_atomic(path, numbers.write_csv(separator="\t"))
        return pl.read_csv(path, separator="\t", schema_overrides={"motif": pl.String})


def insert_motifs(
    plan: Plan, motifs: Sequence[Motif], *, background: Background = "shuffled",
    count: int = BACKGROUNDS,
) -> pl.DataFrame:  # fmt: skip
    """The effect of each motif on the target of a plan: `motif, effect, low, high, sham, p_value,
    backgrounds`, a row each; see `importance.Importance`.

    Args:
        background: the windows of the plan with their dinucleotides shuffled, or other windows of
            its chromosomes, without N and clear of the plan's, matched to them in GC.

    Raises:
        CislensError: if a motif does not fit, or there are too few windows without N.
    """
    _require_background(background)
    windows = plan.windows
    codes_nL = plan.genome.windows(windows["chrom"], windows["start"].to_numpy(), plan.width)
    called_n = (codes_nL != N).all(1)
    if not called_n.all():
        logger.warning("%d of %d regions have an N and make no background.",
                       int((~called_n).sum()), len(windows))  # fmt: skip
    if not called_n.any():
        raise CislensError("every region has an N in its window; give others, or a smaller width.")
    clear = list(codes_nL[called_n])
    seed = plan.question.seed
    if background == "genome":
        pool_nL = _elsewhere(plan, _POOL * count)
        background_KL = matched_backgrounds(clear, list(pool_nL), seed=seed, count=count)
    else:
        background_KL = shuffled_backgrounds(clear, seed=seed, count=count)
    by_name = {motif.name: motif.probabilities_W4 for motif in motifs}
    module = plan.question.network(plan.subject)
    with running(module, plan.device):
        predict = predictor(module, plan.batch_size or BATCH_SIZE)
        found = global_importance(predict, by_name, background_KL, seed=seed)
    return pl.DataFrame([asdict(each) for each in found])


def _require_background(name: str) -> None:
    known = get_args(Background)
    if name not in known:
        raise CislensError(f"no background {name!r}. {nearest(name, known)}")


def _elsewhere(plan: Plan, count: int) -> Codes:
    """Random windows of the plan's chromosomes, none with N or over a window of the plan."""
    rng = generator(plan.question.seed, "insertion", "pool")
    width, sizes = plan.width, plan.genome.chrom_sizes
    names = [name for name in plan.windows["chrom"].unique(maintain_order=True)
             if sizes[name] >= width]  # fmt: skip
    if not names:
        raise CislensError(f"no chromosome of the regions is as long as the {width} bp windows.")
    taken = {name: Spans.of(plan.windows.filter(pl.col("chrom") == name)) for name in names}
    room = np.array([sizes[name] - width + 1 for name in names], np.float64)
    kept = [np.zeros((0, width), np.uint8)]
    for _ in range(_ROUNDS):
        which = rng.choice(len(names), size=count, p=room / room.sum())
        starts = (rng.random(count) * room[which]).astype(np.int64)
        codes_nL = plan.genome.windows([names[at] for at in which], starts, width)
        over = np.zeros(count, bool)
        for at, name in enumerate(names):
            mine = which == at
            over[mine] = taken[name].overlap(starts[mine], starts[mine] + width)
        kept.append(codes_nL[~over & (codes_nL != N).all(1)])
        if sum(map(len, kept)) >= count:
            break
    return np.concatenate(kept)[:count]
