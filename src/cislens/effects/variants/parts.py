"""Parts of the variants: kept aside, and scored one by one by whoever an engine has for it."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from cislens.effects.devices import device_of
from cislens.effects.variants.output import Columns, part_table
from cislens.effects.variants.request import model_files
from cislens.effects.variants.scores import VariantScorer
from cislens.engines import Reopened, Worker
from cislens.errors import CislensError
from cislens.files import atomic_path, read_parquet
from cislens.nn.cores import same_bits

logger = logging.getLogger("cislens")

_LARGEST_PART = 2048
_SMALLEST_PART = 64
_VALUES_PER_PART = 1 << 22


@dataclass(frozen=True)
class Scored:
    """The job of an engine whose units are files of variants: each gets a file of scores.

    Attributes:
        model: digests of the files of the model, as `model_files` gives them.
        folder: of the model.
        background: table of the background's scores, if these are calibrated by it.
    """

    opened: Reopened[VariantScorer]
    model: dict[str, str]
    folder: Path
    background: Path | None = None

    def __call__(self, worker: Worker) -> Callable[[Path], None]:
        """As `engines.Job`.

        Raises:
            CislensError: if the model is no longer what the run began with.
        """
        if model_files(self.folder) != self.model:
            raise CislensError(f"{self.folder} was changed since the variants began to be scored.")
        scorer = self.opened.thing
        scorer.start(device_of(worker, scorer.scoring.device))
        columns = Columns.of(scorer)
        path = self.background
        null = (
            None if path is None else columns.null(read_parquet(path, "scores of the background"))
        )

        def score(variants: Path) -> None:
            with same_bits():
                found = scorer.score(read_parquet(variants, "variants of a part"))
            write_table(part_table(found, columns, null), scores_of(variants))

        return score


def aside(folder: Path, what: str, count: int) -> list[Path]:
    """Where parts of the variants are kept until they are scored."""
    return [folder / f"{what}-{number:06d}.given" for number in range(count)]


def kept_aside(folder: Path, what: str, tables: Iterable[pl.DataFrame], count: int) -> list[Path]:
    """Write parts of the variants; an earlier run may have left some of them, or all."""
    paths = aside(folder, what, count)
    if not all(path.exists() for path in paths):
        for path, table in zip(paths, tables, strict=True):
            if not path.exists():
                write_table(table, path)
    return paths


def missing(given: list[Path]) -> list[Path]:
    """The parts that are not scored yet."""
    left = [path for path in given if not scores_of(path).exists()]
    if len(left) < len(given):
        logger.info("%d of %d parts are there", len(given) - len(left), len(given))
    return left


def scores_of(given: Path) -> Path:
    """Where the scores of a part are."""
    return given.with_suffix(".parquet")


def part_size(columns: Columns) -> int:
    """Variants of a part: as many as its values allow."""
    wide = max(1, len(columns.track_ids))
    return min(_LARGEST_PART, max(_SMALLEST_PART, _VALUES_PER_PART // wide))


def write_table(table: pl.DataFrame, path: Path) -> None:
    """A parquet file, whole or not at all."""
    with atomic_path(path) as beside:
        table.write_parquet(beside)
