"""What is to be attributed and how, checked before anything is computed."""

import hashlib
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
from torch import nn

from cislens.effects.attribution.attribute import (
    METHODS,
    Attributions,
    Average,
    Method,
    attribute,
)
from cislens.effects.attribution.integrated import Baseline
from cislens.effects.attribution.network import TargetNet
from cislens.effects.attribution.parts import held_settings, require_own, require_same
from cislens.effects.attribution.subject import Subject, target_network
from cislens.effects.devices import resolve_device
from cislens.errors import CislensError, nearest
from cislens.extras import extra
from cislens.genome.codes import Codes, one_hot
from cislens.genome.reference import Genome
from cislens.motifs.library import MotifLibrary

# Four float32 and int8 twice, aside and in the files, and the bigWig.
_BYTES_A_BASE = 46


@dataclass(frozen=True)
class Question:
    """What is explained and how; see `attribute` for the fields."""

    target: str | None
    method: Method = "saliency"
    species: str | None = None
    average: Average = "rc"
    steps: int = 32
    baseline: Baseline = "shuffled"
    backgrounds: int = 4
    seed: int = 0

    def check(self, subject: Subject, width: int) -> None:
        """Refuse, before anything runs, what the model or the window cannot give.

        Raises:
            CislensError: for an unknown method, or a target that does not fit.
        """
        if self.method not in METHODS:
            raise CislensError(f"there is no method {self.method!r}. "
                               f"{nearest(self.method, METHODS)}")  # fmt: skip
        if self.method == "entropy":
            if self.target is not None:
                raise CislensError("the map of entropies has no target; leave --target out.")
            subject.require_language()
            return
        module = self.network(subject)
        if isinstance(module, TargetNet):
            module.grid(width)

    def network(self, subject: Subject) -> nn.Module:
        """x (B, 4, L) -> (B, 1); see `target_network`."""
        return target_network(subject.model, self.target, self.species, self.average == "rc")

    def probe_digest(self, subject: Subject) -> str | None:
        """sha256 of the numbers of a target that come from a file."""
        module = None if self.method == "entropy" else self.network(subject)
        if not isinstance(module, TargetNet):
            return None
        held = [buffer.cpu().numpy().tobytes() for buffer in module.target.buffers()]
        return hashlib.sha256(b"".join(held)).hexdigest() if held else None


@dataclass(frozen=True)
class Extras:
    """What is made of the maps besides arrays and track.

    Attributes:
        logos: number of SVG files, of the regions with the strongest stretch.
        seqlets: whether to call them.
        motifs: to name seqlets by.
    """

    logos: int = 0
    seqlets: bool = False
    motifs: MotifLibrary | None = None

    @property
    def asked(self) -> dict[str, Any]:
        """What is to be made and what of, by its name in `parts.EXTRAS`."""
        motifs = None if self.motifs is None else self.motifs.digest
        seqlets = {"seqlets": {"motifs": motifs}} if self.seqlets else {}
        return {**seqlets, **({"logos": {"regions": self.logos}} if self.logos else {})}

    def check(self) -> None:
        """Refuse what needs a package that is not installed, or has no effect.

        Raises:
            CislensError: saying what to do.
        """
        if self.logos:
            extra("logomaker", "interpret")
        if self.seqlets:
            extra("tangermeme", "interpret")
        elif self.motifs is not None:
            raise CislensError("motifs name seqlets; ask for seqlets, or leave the motifs out.")


@dataclass(frozen=True)
class Plan:
    """Everything that `run` needs; `check` refuses what cannot work.

    Attributes:
        windows: `chrom, start, end, name`; see `files.read_windows`.
        within: bp around the middle of a window that maps are made of; all of it if None. The
            model reads the whole window.
    """

    subject: Subject
    genome: Genome
    windows: pl.DataFrame
    question: Question
    extras: Extras
    out: Path
    device: str = "auto"
    batch_size: int | None = None
    within: int | None = None

    @property
    def width(self) -> int:
        """Bases of a window."""
        return int(self.windows["end"][0] - self.windows["start"][0])

    @property
    def shown_width(self) -> int:
        """Bases of a map."""
        return self.width if self.within is None else self.within

    @property
    def stretch(self) -> slice:
        """The bases of a window that maps are made of."""
        first = self.width // 2 - self.shown_width // 2
        return slice(first, first + self.shown_width)

    @property
    def shown(self) -> pl.DataFrame:
        """The places of the maps: `windows` cut to the stretch."""
        start = pl.col("start")
        return self.windows.with_columns(start=start + self.stretch.start,
                                         end=start + self.stretch.stop)  # fmt: skip

    @property
    def bytes(self) -> int:
        """On the disk, at most, while files are made of the maps."""
        return _BYTES_A_BASE * len(self.windows) * self.shown_width

    def check(self, maps: bool = True) -> None:
        """Refuse what cannot work before anything is computed.

        Args:
            maps: whether maps are to be made, for which folder and disk must do.

        Raises:
            CislensError: for a target, device, package, folder or disk that does not do.
        """
        if self.within is not None and not 1 <= self.within <= self.width:
            raise CislensError(
                f"maps of {self.within} bp in windows of {self.width} bp: give 1 to {self.width}."
            )
        self.question.check(self.subject, self.width)
        self.extras.check()
        resolve_device(self.device)
        if not maps:
            return
        require_own(self.out)
        if (held := held_settings(self.out)) is not None:
            require_same(held, self.settings(), self.out)
        parent = next(path for path in [self.out, *self.out.absolute().parents] if path.exists())
        free = shutil.disk_usage(parent).free
        if self.bytes > free:
            raise CislensError(
                f"{self.out} needs up to {self.bytes:,} bytes, {free:,} are free on its disk; "
                "give fewer or narrower regions, or another folder."
            )

    def settings(self) -> dict[str, Any]:
        """What the maps are a function of."""
        digest = hashlib.sha256()
        for first in range(0, len(self.windows), 256):
            digest.update(self._codes(slice(first, first + 256)).tobytes())
        digest.update(self.windows.write_csv().encode())
        asked = vars(self.question)
        if self.question.method != "integrated_gradients":
            asked = {k: asked[k] for k in ("target", "method", "species", "average")}
        return {
            "model": self.subject.digest, "regions": digest.hexdigest(), "width": self.width,
            "within": self.within,
            **asked, "probe": self.question.probe_digest(self.subject),
        }  # fmt: skip

    def attributions(self, rows: slice) -> Attributions:
        """Of the stretch of some windows; see `attribute`."""
        subject, question, part = self.subject, self.question, self.stretch
        limited = self.within is not None and question.method == "ism"
        found = attribute(
            subject.require_language() if question.method == "entropy" else subject.model,
            one_hot(self._codes(rows)),
            **vars(question),
            positions=range(part.start, part.stop) if limited else None,
            device=self.device,
            batch_size=self.batch_size,
        )
        return replace(
            found, hypothetical=found.hypothetical[..., part], one_hot=found.one_hot[..., part]
        )

    def _codes(self, rows: slice) -> Codes:
        part = self.windows[rows]
        return self.genome.windows(part["chrom"], part["start"].to_numpy(), self.width)
