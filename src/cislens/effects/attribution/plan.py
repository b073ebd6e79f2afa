"""What is to be attributed and how, checked before anything is computed."""

import hashlib
import os
import shutil
from dataclasses import dataclass
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
from cislens.effects.attribution.seqlets import interpret_extra
from cislens.effects.attribution.subject import language_of, target_network
from cislens.effects.devices import resolve_device
from cislens.effects.track_model import TrackModel
from cislens.errors import CislensError, nearest
from cislens.files import file_digest
from cislens.genome.codes import Codes, one_hot
from cislens.genome.reference import Genome
from cislens.models.mixture import part_of_kind
from cislens.models.profile import ProfileModel
from cislens.models.saving import load_model
from cislens.motifs.library import MotifLibrary
from cislens.signal.datacard import DataCard

# Four float32 and int8 twice, aside and in the files, and the bigWig.
_BYTES_A_BASE = 46


@dataclass(frozen=True)
class Subject:
    """A trained model to be explained.

    Attributes:
        model: a model of tracks where the folder holds one, else whatever it holds.
        whole: the model of the folder with all of its parts.
        length: of its windows in bp; None if the folder does not say.
        digest: sha256 of its weights.
    """

    model: TrackModel | nn.Module
    whole: nn.Module
    length: int | None
    digest: str

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> "Subject":
        """The model of a model or run folder.

        Raises:
            MissingFileError, CislensError: as `load_model` and `DataCard.read`.
        """
        path = Path(folder)
        if (path / "model" / "config.json").exists():
            path = path / "model"
        whole = load_model(path)
        digest = file_digest(path / "model.safetensors")
        profile = part_of_kind(whole, ProfileModel)
        if profile is None:
            return cls(whole, whole, None, digest)
        card = DataCard.read(path)
        return cls(TrackModel(profile, card, str(folder)), whole, card.length, digest)

    def species(self, name: str | None) -> str | None:
        """The species that is meant: of a model of tracks the only one unless named.

        Raises:
            CislensError: as `TrackModel.species`.
        """
        return self.model.species(name) if isinstance(self.model, TrackModel) else name


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
            with language_of(subject.whole, "cpu"):
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

    def check(self) -> None:
        """Refuse what needs a package that is not installed, or has no effect.

        Raises:
            CislensError: saying what to do.
        """
        if self.logos:
            interpret_extra("logomaker")
        if self.seqlets:
            interpret_extra("tangermeme")
        elif self.motifs is not None:
            raise CislensError("motifs name seqlets; ask for seqlets, or leave the motifs out.")


@dataclass(frozen=True)
class Plan:
    """Everything that `run` needs; `check` refuses what cannot work.

    Attributes:
        windows: `chrom, start, end, name`; see `files.read_windows`.
    """

    subject: Subject
    genome: Genome
    windows: pl.DataFrame
    question: Question
    extras: Extras
    out: Path
    device: str = "auto"
    batch_size: int = 16

    @property
    def width(self) -> int:
        """Bases of a window."""
        return int(self.windows["end"][0] - self.windows["start"][0])

    @property
    def bytes(self) -> int:
        """On the disk, at most, while files are made of the maps."""
        return _BYTES_A_BASE * len(self.windows) * self.width

    def check(self) -> None:
        """Refuse what cannot work before anything is computed.

        Raises:
            CislensError: for a target, device, package, folder or disk that does not do.
        """
        self.question.check(self.subject, self.width)
        self.extras.check()
        resolve_device(self.device)
        if self.out.exists() and not self.out.is_dir():
            raise CislensError(f"{self.out} is a file; give a folder.")
        parent = next(path for path in [self.out, *self.out.absolute().parents] if path.exists())
        free = shutil.disk_usage(parent).free
        if self.bytes > free:
            raise CislensError(
                f"{self.out} needs up to {self.bytes:,} bytes, {free:,} are free on its disk; "
                "give fewer or narrower regions, or another folder."
            )

    def settings(self) -> dict[str, Any]:
        """What the files are a function of."""
        digest = hashlib.sha256()
        for first in range(0, len(self.windows), 256):
            digest.update(self._codes(slice(first, first + 256)).tobytes())
        digest.update(self.windows.write_csv().encode())
        asked = vars(self.question)
        if self.question.method != "integrated_gradients":
            asked = {k: asked[k] for k in ("target", "method", "species", "average")}
        motifs = self.extras.motifs
        return {
            "model": self.subject.digest, "regions": digest.hexdigest(), "width": self.width,
            **asked, "probe": self.question.probe_digest(self.subject),
            "logos": self.extras.logos, "seqlets": self.extras.seqlets,
            "motifs": None if motifs is None else motifs.digest,
        }  # fmt: skip

    def attributions(self, rows: slice) -> Attributions:
        """Of some windows; see `attribute`."""
        subject, question = self.subject, self.question
        return attribute(
            subject.whole if question.method == "entropy" else subject.model,
            one_hot(self._codes(rows)),
            **vars(question),
            device=self.device,
            batch_size=self.batch_size,
        )

    def _codes(self, rows: slice) -> Codes:
        part = self.windows[rows]
        return self.genome.windows(part["chrom"], part["start"].to_numpy(), self.width)
