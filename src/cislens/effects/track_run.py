"""Prediction of whole genomes into files: little memory, and resumed after an interruption.

While it runs, stretches of finished windows lie as arrays in `OUT/.parts`, beside the settings
they belong to; the files are written from them at the end. A stretch is a function of the settings
alone, so a run that was killed and started again gives the bytes of one that was not.

Dimensions: R bin of a stretch, T track.
"""

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from cislens.effects.averaging import Averaging
from cislens.effects.devices import Precision, device_of, resolve_device
from cislens.effects.ensemble import Ensemble
from cislens.effects.tiling import Regions, Tiling
from cislens.effects.track_files import Predicted, Stretch, output_names, write_files
from cislens.effects.track_model import model_digest
from cislens.effects.tracks import Values, predicted_batches
from cislens.engines import HERE, Engine, Reopened, Worker
from cislens.errors import CislensError
from cislens.files import atomic_path, claimed, write_atomic
from cislens.genome.codes import decode
from cislens.genome.reference import Genome
from cislens.nn.cores import same_bits
from cislens.signal.tracks import tracks_text

logger = logging.getLogger("cislens")

FORMAT, VERSION = "cislens predictions", 1
PARTS, SETTINGS, MANIFEST, TRACKS = ".parts", "settings.json", "manifest.json", "tracks.tsv"

# A stretch is what an interruption costs at most, and what is held in memory.
_STRETCH_BYTES = 32 << 20
_STRETCH_WINDOWS = 64


@dataclass(frozen=True)
class Prediction:
    """A checked prediction; `run` does it.

    It is also the job of an engine, whose units are stretches: number and windows.

    Attributes:
        opened: the models.
        out: folder to write to.
        formats: see `track_files.FORMATS`.
        device: where it runs, as `resolve_device` knows it.
        settings: what decides the bytes of the files.
    """

    opened: Reopened[Ensemble]
    genome: Genome
    regions: Regions
    tiling: Tiling
    averaging: Averaging
    out: Path
    formats: tuple[str, ...]
    device: str
    precision: Precision
    batch_size: int
    settings: dict[str, Any]

    @property
    def ensemble(self) -> Ensemble:
        """The models, opened."""
        return self.opened.thing

    @property
    def spread(self) -> bool:
        """Whether there are several models."""
        return len(self.ensemble.models) > 1

    @property
    def bytes(self) -> int:
        """Of all values as they lie aside; the files take about as much again, or less."""
        return self.tiling.rows * len(self.ensemble.tracks) * 4 * (1 + self.spread)

    @property
    def files(self) -> list[str]:
        """Names of what is written to the folder."""
        return output_names(self.ensemble.tracks, self.formats, self.spread)

    def plan(self) -> dict[str, Any]:
        """What will be done, for a dry run."""
        first = self.regions.frame.row(0, named=True)
        end = min(first["end"], first["start"] + 60)
        lengths = self.regions.frame["end"] - self.regions.frame["start"]
        return {
            "models": [model.name for model in self.ensemble.models],
            "species": self.ensemble.species,
            "tracks": len(self.ensemble.tracks),
            "regions": self.regions.frame.height,
            "bases": int(lengths.sum()),
            "first_bases": decode(self.genome.fetch(first["chrom"], first["start"], end)),
            "bins": self.tiling.rows,
            "windows": self.tiling.windows,
            "windows_padded_with_n": self.tiling.padded,
            "views": self.averaging.views,
            "device": str(resolve_device(self.device)),
            "bytes": self.bytes,
            "files": len(self.files),
            "parts_done": len(self._done()),
            "parts": len(self._stretches()),
        }

    def run(self, engine: Engine = HERE) -> list[Path]:
        """Predict what is not there yet and write the files.

        Args:
            engine: who predicts; the bytes do not depend on it.

        Returns:
            The files, in the order of formats and tracks.

        Raises:
            CislensError: if another process predicts into the folder, or a value is not finite.
        """
        paths = [self.out / name for name in self.files]
        parts = self.out / PARTS
        if (self.out / MANIFEST).exists():
            logger.info("%s is already predicted", self.out)
            shutil.rmtree(parts, ignore_errors=True)  # of a run that was killed at its very end
            return paths
        with claimed(parts, "predicting into"):
            self._clean()
            self._settle()
            self._predict(engine)
            write_files(self._predicted(), self.out, self.formats, parts)
            self._write_tracks()
            manifest = {
                "format": FORMAT,
                "version": VERSION,
                "settings": self.settings,
                "genome": self.genome.name,
                "bin_size": self.tiling.bin_size,
                "bins": self.tiling.rows,
                "windows_padded_with_n": self.tiling.padded,
                "files": [path.name for path in paths],
            }
            write_atomic(self.out / MANIFEST, json.dumps(manifest, indent=1) + "\n")
            shutil.rmtree(parts)
        return paths

    def _settle(self) -> None:
        """Say whose the parts are; those that nothing vouches for are removed."""
        settings = self.out / PARTS / SETTINGS
        own = json.dumps(self.settings, indent=1) + "\n"
        if not settings.exists() or settings.read_text(encoding="utf-8") != own:
            for stale in settings.parent.glob("*.npy"):
                stale.unlink()
            write_atomic(settings, own)

    def _clean(self) -> None:
        """Remove what a run that was killed had half-written."""
        for name in (*self.files, MANIFEST, TRACKS):
            for stale in self.out.glob(f".{name}.*.partial"):
                if stale.is_dir():
                    shutil.rmtree(stale)
                else:
                    stale.unlink()

    def _stretches(self) -> list[slice]:
        """Windows of each stretch: a function of the settings alone."""
        values = self.tiling.central * len(self.ensemble.tracks) * (1 + self.spread)
        most = min(_STRETCH_WINDOWS, _STRETCH_BYTES // (4 * values))
        each = max(1, most // self.batch_size) * self.batch_size
        last = self.tiling.windows
        return [slice(first, min(first + each, last)) for first in range(0, last, each)]

    def _part(self, number: int) -> Path:
        return self.out / PARTS / f"{number:08d}.npy"

    def _done(self) -> list[int]:
        if not (self.out / PARTS / SETTINGS).exists():
            return []
        return [n for n in range(len(self._stretches())) if self._part(n).exists()]

    def _predict(self, engine: Engine) -> None:
        stretches, done = self._stretches(), set(self._done())
        if done:
            logger.info("%d of %d parts are there from an earlier run", len(done), len(stretches))
        missing = [each for each in enumerate(stretches) if each[0] not in done]
        gpu = resolve_device(self.device).type == "cuda"
        with self.ensemble.running(None):  # as they were before, once it has run
            engine.run(self, missing, f"predict {self.ensemble.species}", gpu=gpu)

    def __call__(self, worker: Worker) -> Callable[[tuple[int, slice]], None]:
        """As `engines.Job`.

        Raises:
            CislensError: if a model is no longer what the prediction began with.
        """
        device = device_of(worker, self.device)
        for model, digest in zip(self.ensemble.models, self.settings["models"], strict=True):
            if model_digest(model.name) != digest:
                raise CislensError(f"{model.name} was changed since the prediction began.")
            model.net.to(resolve_device(device))

        def predict(stretch: tuple[int, slice]) -> None:
            number, windows = stretch
            firsts = range(windows.start, windows.stop, self.batch_size)
            batches = [slice(at, min(at + self.batch_size, windows.stop)) for at in firsts]
            with same_bits(), self.ensemble.running(device, self.precision) as place:
                found = predicted_batches(
                    self.ensemble, self.genome, self.tiling, batches, self.averaging, place
                )
                self._save(number, self._filled(windows, found))

        return predict

    def _filled(
        self, windows: slice, found: Iterator[tuple[slice, Values, Values | None]]
    ) -> Values:
        """(1 or 2, T, R) values and spread of the windows of a stretch."""
        first, stop = (int(self.tiling.row_W[at]) for at in (windows.start, windows.stop))
        shape = (1 + self.spread, len(self.ensemble.tracks), stop - first)
        filled = np.empty(shape, np.float32)
        reached = first
        while reached < stop:
            rows, values_TR, spread_TR = next(found)
            inside = slice(rows.start - first, rows.stop - first)
            filled[0, :, inside] = values_TR
            if spread_TR is not None:
                filled[1, :, inside] = spread_TR
            reached = rows.stop
        wrong = np.argwhere(~np.isfinite(filled))
        if wrong.size:
            _, track, row = wrong[0].tolist()
            chrom, start, _ = self.tiling.bins(first + row, first + row + 1).row(0)
            raise CislensError(
                f"{self.ensemble.models[0].name} predicts a value that is not finite for track "
                f"{self.ensemble.tracks.frame['id'][track]!r} at {chrom}:{start}; use --precision "
                "fp32, or train the model again."
            )
        return filled

    def _save(self, number: int, values: Values) -> None:
        with atomic_path(self._part(number)) as aside, aside.open("wb") as handle:
            np.save(handle, values)

    def _predicted(self) -> Predicted:
        def stretches() -> Iterator[Stretch]:
            for number, windows in enumerate(self._stretches()):
                values = np.load(self._part(number), mmap_mode="r")
                rows = (int(self.tiling.row_W[at]) for at in (windows.start, windows.stop))
                spread_TR = values[1] if self.spread else None
                yield Stretch(self.tiling.bins(*rows), values[0], spread_TR)

        return Predicted(
            stretches, self.tiling.rows, self.spread, self.ensemble.tracks,
            self.ensemble.species, self.genome.name, self.tiling.bin_size,
            self.genome.chrom_sizes,
        )  # fmt: skip

    def _write_tracks(self) -> None:
        """`tracks.tsv`: what each track is and which file holds it."""
        frame = self.ensemble.tracks.frame.rename({"file": "measured"})
        measured = pl.Series([Path(name).name for name in frame["measured"]], dtype=pl.String)
        frame = frame.with_columns(measured=measured)
        if "bigwig" in self.formats:
            names = output_names(self.ensemble.tracks, ["bigwig"], spread=False)
            frame = frame.with_columns(file=pl.Series(names)).select(
                "id", "file", pl.exclude("id", "file")
            )
        write_atomic(self.out / TRACKS, tracks_text(frame))
