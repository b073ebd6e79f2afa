"""Sizes of a profile store: its windows and bins, and the arrays that hold them."""

from dataclasses import dataclass
from typing import Literal

from cislens.signal.shards import ArrayLayout

# What a bin is stored as: a float16, or a code of `cislens.signal.quantization`.
Values = Literal["float16", "uint8"]

# Stores of codes have a version of their own, so that a cislens that knows no codes refuses them.
_VERSIONS: dict[Values, int] = {"float16": 2, "uint8": 3}
SCHEMA_VERSIONS = tuple(_VERSIONS.values())


def schema_version(values: Values) -> int:
    """The version of a store's format; 0 of values that no store has."""
    return _VERSIONS.get(values, 0)


@dataclass(frozen=True)
class Shape:
    """Sizes of a store: window and margin in bp, bins of `bin_size` bp, `crop` bins a side."""

    length: int
    bin_size: int
    crop: int
    margin: int

    @property
    def bins(self) -> int:
        return self.length // self.bin_size - 2 * self.crop

    @property
    def width(self) -> int:
        """Bases stored for a window: its length and a margin for shifts at either side."""
        return self.length + 2 * self.margin


def array_layouts(
    shape: Shape, rows: int, tracks: int, shard_rows: int, values: Values = "float16"
) -> dict[str, ArrayLayout]:
    """The two arrays of a species: `sequence` and `targets`."""
    return {
        "sequence": ArrayLayout(rows, (shape.width,), "uint8", shard_rows),
        "targets": ArrayLayout(rows, (shape.bins, tracks), values, shard_rows),
    }
