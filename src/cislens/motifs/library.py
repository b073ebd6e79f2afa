"""A library of motifs: a release of JASPAR, or a file."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from cislens.errors import CislensError, nearest
from cislens.genome.intervals import Rows, read_rows
from cislens.motifs.sites import Motif, read_meme, refuse_second


@dataclass(frozen=True)
class MotifLibrary:
    """Motifs with where they come from.

    Attributes:
        motifs: each with an identifier of its own, in the order of the file, or by identifier.
        source: what was asked for, e.g. "JASPAR2026:CORE:vertebrates", or the file's name.
        release: the release and the package that holds it; of a file "".
        digest: SHA-256 over names and probabilities, in order.
    """

    motifs: tuple[Motif, ...]
    source: str
    release: str
    digest: str


def read_library(spec: str) -> MotifLibrary:
    """The motifs that `spec` names.

    Args:
        spec: "JASPAR<year>:<collection>:<taxon>", e.g. "JASPAR2026:CORE:vertebrates", from the
            database in the installed pyjaspar; or a file in MEME format, or one of counts or
            probabilities (a line ">name" before the rows of each motif), plain or gzip.

    Raises:
        MissingFileError: if there is no such file.
        CislensError: for an unknown release, collection or taxon, without pyjaspar, or with file
            and line for a matrix that cannot be read or an identifier that occurs twice.
    """
    if spec.upper().startswith("JASPAR") and spec.count(":") == 2:
        release, collection, taxon = spec.split(":")
        found = _jaspar(release.upper(), collection.upper(), taxon.lower())
        held = f"{release.upper()} in pyjaspar {version('pyjaspar')}"
        return MotifLibrary(found, spec, held, motifs_digest(found))
    if spec.upper().startswith("JASPAR") and not Path(spec).exists():
        raise CislensError(
            f"{spec!r} is neither a file nor <release>:<collection>:<taxon>, e.g. "
            "JASPAR2026:CORE:vertebrates."
        )
    motifs = read_motif_file(spec)
    return MotifLibrary(motifs, Path(spec).name, "", motifs_digest(motifs))


def motifs_digest(motifs: Sequence[Motif]) -> str:
    """SHA-256 over the names and probabilities of motifs, in order."""
    digest = hashlib.sha256()
    for motif in motifs:
        digest.update(f"{motif.name}\n{len(motif)}\n".encode())
        digest.update(np.ascontiguousarray(motif.probabilities_W4, "<f8").tobytes())
    return digest.hexdigest()


def read_motif_file(path: str | Path) -> tuple[Motif, ...]:
    """Motifs of a file in MEME format or of counts, told apart by the first line that is data.

    Raises:
        MissingFileError: if there is no such file.
        CislensError: with file and line; see `read_library`.
    """
    rows = read_rows(path, "motif file", separator=None)
    if not rows.fields or not rows.fields[0][0].startswith(">"):
        return tuple(read_meme(path))
    starts = [at for at, fields in enumerate(rows.fields) if fields[0].startswith(">")]
    motifs: list[Motif] = []
    seen: dict[str, int] = {}
    for start, end in pairwise([*starts, len(rows.fields)]):
        name = " ".join(rows.fields[start])[1:].strip()
        if not name or end == start + 1:
            raise rows.error(start, f"motif {name!r} has no name or no rows.")
        refuse_second(name.split()[0], rows, start, seen)
        shares = [_shares(rows, at) for at in range(start + 1, end)]
        motifs.append(Motif(name, np.array(shares)))
    return tuple(motifs)


def _shares(rows: Rows, at: int) -> list[float]:
    try:
        row = [float(field) for field in rows.fields[at]]
    except ValueError:
        row = []
    if len(row) != 4 or not min(row) >= 0 or not 0 < sum(row) < float("inf"):
        raise rows.error(
            at, f"{' '.join(rows.fields[at])!r} is not four counts of A, C, G, T, some above 0."
        )
    return [value / sum(row) for value in row]


@cache
def _jaspar(release: str, collection: str, taxon: str) -> tuple[Motif, ...]:
    try:
        import pyjaspar
    except ImportError as error:
        raise CislensError(
            "motifs of JASPAR need pyjaspar; pip install 'cislens[multimodal]', or give a file "
            "in MEME format."
        ) from error
    if release not in pyjaspar.jaspar_releases:
        raise CislensError(
            f"pyjaspar {version('pyjaspar')} holds no release {release!r}. "
            f"{nearest(release, pyjaspar.jaspar_releases)}"
        )
    database = pyjaspar.jaspardb(release=release)
    try:
        _known(database, "MATRIX", "COLLECTION", collection, release)
        _known(database, "MATRIX_ANNOTATION WHERE TAG = 'tax_group'", "VAL", taxon, release)
        found = database.fetch_motifs(collection=collection, tax_group=[taxon])
        if not found:
            raise CislensError(f"{release} has no motif of {taxon} in {collection}.")
        motifs = [_motif(record) for record in found]
    finally:
        database.conn.close()
    return tuple(sorted(motifs, key=lambda motif: motif.id))


def _known(database: Any, table: str, column: str, value: str, release: str) -> None:
    rows = database.conn.execute(f"SELECT DISTINCT {column} FROM {table}").fetchall()
    known = {str(row[0]) for row in rows}
    if value not in known:
        raise CislensError(f"{release} holds no {value!r}. {nearest(value, known)}")


def _motif(record: Any) -> Motif:
    counts_W4 = np.array([record.counts[base] for base in "ACGT"]).T
    return Motif(f"{record.matrix_id} {record.name}", counts_W4 / counts_W4.sum(1, keepdims=True))
