"""What is embedded by what: all that decides the bytes of an embedding store."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from cislens.errors import CislensError
from cislens.genome.codes import Codes, N
from cislens.representations.contract import Binned, Representation, Viewed
from cislens.representations.store import (
    CONTRACT,
    PRECISE,
    order_hash,
    sequence_digest,
)

_CHUNK_BASES = 1 << 18
_CHUNK_ROWS = 8192
DTYPES = ("float32", "float16")
_LIBRARIES = ("cislens", "numpy", "torch", "zarr")


@dataclass(frozen=True)
class StorePlan:
    """What is embedded and by what: all that decides the bytes of a store.

    Attributes:
        encoder: `name, kind, parameters, digest` and what else there is to say about it.
        views: in order, the last is the default.
        bins: layer and size in bp of the bins to be stored, if they are.
        task: name and hash of the task that the sequences are of.
        remapped: how often symbols other than A, C, G, T and N were read as N.
    """

    encoder: Mapping[str, Any]
    ids: Sequence[str]
    sequences: Sequence[Codes]
    species: str | None
    stranded: bool
    views: tuple[str, ...]
    dtype: str = PRECISE
    bins: tuple[str, int] | None = None
    task: tuple[str, str] | None = None
    seed: int | None = None
    device: str = "cpu"
    remapped: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            raise CislensError(
                f"embeddings are stored as {' or '.join(DTYPES)}, not as {self.dtype!r}."
            )
        check_examples(self.ids, self.sequences)
        odd = [view for view in self.views if not re.fullmatch(r"\w[\w.-]*", view, re.ASCII)]
        if odd or not self.views:
            raise CislensError(
                f"views are named by letters, digits and . - _, found {odd or 'no view'}."
            )
        lengths = sorted({len(codes) for codes in self.sequences})
        if self.bins is not None and len(lengths) > 1:
            raise CislensError(
                f"bins need sequences of one length, found {lengths[0]} to {lengths[-1]} bp; crop "
                "them, or store views alone."
            )

    @cached_property
    def digests(self) -> list[str]:
        return [sequence_digest(codes) for codes in self.sequences]

    @property
    def chunk_rows(self) -> int:
        """Sequences a chunk."""
        return chunk_rows(self.sequences)

    @property
    def arrays(self) -> dict[str, str]:
        """Where in the store each view lies, and the bins under the name of their layer."""
        arrays = {view: f"pooled/{view}.zarr" for view in self.views}
        if self.bins is not None:
            arrays[self.bins[0]] = f"tokens/{self.bins[0]}.zarr/flat"
        return arrays

    @property
    def chunks(self) -> list[tuple[int, int]]:
        """First row of each chunk and the row after its last."""
        count = len(self.sequences)
        return [(i, min(i + self.chunk_rows, count)) for i in range(0, count, self.chunk_rows)]

    def manifest(self) -> dict[str, Any]:
        """What can be said before anything is embedded."""
        return {
            "contract": CONTRACT,
            "encoder": dict(self.encoder),
            "species": self.species,
            "stranded": self.stranded,
            "task": {"name": self.task[0], "hash": self.task[1]} if self.task else None,
            "rows": len(self.sequences),
            "order": order_hash(self.ids, self.digests),
            "seed": self.seed,
            "remapped": dict(sorted(self.remapped.items())),
            "dtype": {"compute": "float32", "stored": self.dtype},
            "device": self.device,
            "libraries": {name: found for name in _LIBRARIES if (found := _version(name))},
        }

    @cached_property
    def digest(self) -> str:
        """sha256 that changes whenever the bytes of the store could."""
        known = {**self.manifest(), "views": self.views, "bins": self.bins, "by": self.chunk_rows}
        return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def check_examples(ids: Sequence[str], sequences: Sequence[Codes]) -> None:
    """Refuse what cannot be embedded as one set.

    Raises:
        CislensError: for no sequence, one without a called base, or an id that is there twice.
    """
    if not sequences or len(ids) != len(sequences):
        raise CislensError(f"{len(ids)} ids name {len(sequences)} sequences; give one for each.")
    if len(set(ids)) < len(ids):
        twice = Counter(ids).most_common(1)[0][0]
        raise CislensError(f"the example id {twice!r} occurs more than once.")
    for name, codes in zip(ids, sequences, strict=True):
        if not (codes != N).any():
            raise CislensError(
                f"the sequence of example {name!r} ({len(codes)} bp) holds no called base; leave "
                "it out."
            )


def chunk_rows(sequences: Sequence[Codes]) -> int:
    """Sequences a chunk, for about as many bases in each; depends on the sequences alone."""
    mean = max(1.0, sum(map(len, sequences)) / len(sequences))
    return int(min(max(1, _CHUNK_BASES // mean), _CHUNK_ROWS, len(sequences)))


def plan_embeddings(
    representation: Representation,
    sequences: Sequence[Codes],
    ids: Sequence[str],
    *,
    views: Sequence[str] | None = None,
    bins: bool = False,
    **settings: Any,
) -> StorePlan:
    """The plan of a store of `representation`; `settings` are those of `StorePlan`."""
    known = representation.views if isinstance(representation, Viewed) else ("features",)
    chosen = tuple(views or known[-1:])
    if not isinstance(representation, Viewed) and chosen != known:
        raise CislensError(f"{representation.name} has no views but {known[0]!r}; name none.")
    layer = None
    if bins:
        if not isinstance(representation, Binned):
            raise CislensError(f"{representation.name} keeps no bins; store its views alone.")
        layer = (known[-1].rpartition(".")[0], representation.bin_size)
    encoder = {
        "name": representation.name,
        "kind": representation.kind,
        "parameters": representation.parameters,
        "digest": representation.digest,
    }
    device = str(getattr(representation, "device", "cpu"))
    return StorePlan(encoder, ids, sequences, views=chosen, bins=layer, device=device, **settings)


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None
