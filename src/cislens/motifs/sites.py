"""Where a motif occurs in sequences: a scan with a position weight matrix.

Dimensions: n sequence, L base, W column of the motif.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from cislens.errors import CislensError, nearest
from cislens.genome.codes import Codes, N
from cislens.genome.intervals import Rows, read_rows

_IUPAC = {
    "A": "A", "C": "C", "G": "G", "T": "T", "U": "T", "R": "AG", "Y": "CT", "S": "CG", "W": "AT",
    "K": "GT", "M": "AC", "B": "CGT", "D": "AGT", "H": "ACT", "V": "ACG", "N": "ACGT",
}  # fmt: skip
_PSEUDO = 1e-4  # added to each probability, as FIMO implementations do
_STEP = 0.01  # bits; scores are whole multiples of it, so that their distribution is exact
_NEVER = -(10**8)
# AHR.H12CORE.0.P.B, AHR_HUMAN.H11MO.0.B: the gene stands before the release.
_HOCOMOCO = re.compile(r"^(.+?)(?:_[A-Z0-9]+)?\.H\d+[A-Z]+\.")
_VARIANT = re.compile(r"\(var\.\d+\)$", re.IGNORECASE)

Scores = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Motif:
    """A motif: name (identifier and, in many files, a second name) and base probabilities.

    Attributes:
        probabilities_W4: of A, C, G, T in each column; rows sum to 1.
    """

    name: str
    probabilities_W4: npt.NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.probabilities_W4)

    @property
    def id(self) -> str:
        """The identifier, e.g. "MA0139.2"."""
        return self.name.split()[0]

    @property
    def factors(self) -> tuple[str, ...]:
        """Gene symbols of the proteins that bind it, in upper case; of a dimer each of them.

        The second name of the motif, or what stands for the gene in an identifier of HOCOMOCO.
        """
        symbol = self.name.split()[-1]
        if found := _HOCOMOCO.match(symbol):
            symbol = found[1]
        return tuple(dict.fromkeys(_VARIANT.sub("", part).upper() for part in symbol.split("::")))

    @property
    def consensus(self) -> Codes:
        """The most probable base of each column, (W,) codes."""
        best: Codes = np.asarray(self.probabilities_W4.argmax(1), dtype=np.uint8)
        return best

    def reverse_complement(self) -> "Motif":
        """The motif as it reads on the other strand."""
        return Motif(self.name, self.probabilities_W4[::-1, ::-1])


def consensus_motif(consensus: str, name: str | None = None) -> Motif:
    """A motif from IUPAC letters, e.g. "TGTANATA"; the bases a letter allows are equally likely.

    Raises:
        CislensError: for another letter, or none.
    """
    rows = []
    for letter in consensus.upper():
        if letter not in _IUPAC:
            raise CislensError(f"{letter!r} in motif {consensus!r} is no IUPAC letter of DNA.")
        allowed = _IUPAC[letter]
        rows.append([(base in allowed) / len(allowed) for base in "ACGT"])
    if not rows:
        raise CislensError("a motif needs at least one letter.")
    return Motif(name or consensus, np.array(rows))


def read_meme(path: str | Path) -> list[Motif]:
    """Motifs of a file in MEME format, plain or gzip.

    Raises:
        MissingFileError: if there is no such file.
        CislensError: with file and line, for a matrix whose rows are not four probabilities, that
            has no rows or fewer than it says, a motif without a matrix, a second one of the same
            identifier, or a file without motifs.
    """
    rows = read_rows(path, "motif file", separator=None)
    motifs: list[Motif] = []
    seen: dict[str, int] = {}
    name = ""
    at = named = 0
    while at < len(rows.fields):
        fields = rows.fields[at]
        at += 1
        if fields[0] == "MOTIF" and len(fields) > 1:
            _refuse_bare(rows, named, name)
            name, named = " ".join(fields[1:]), at - 1
            refuse_second(fields[1], rows, named, seen)
        elif fields[0] == "letter-probability":
            if not name:
                raise rows.error(at - 1, "a matrix without a MOTIF line before it.")
            matrix, at = _matrix(rows, at)
            motifs.append(Motif(name, matrix))
            name = ""
    _refuse_bare(rows, named, name)
    if not motifs:
        raise CislensError(f"{rows.path} holds no motif in MEME format.")
    return motifs


def _refuse_bare(rows: Rows, row: int, name: str) -> None:
    """Refuse a motif, by the line of its name, that nothing follows; "" is none."""
    if name:
        raise rows.error(
            row, f"motif {name!r} has no letter-probability matrix; add it or remove the motif."
        )


def refuse_second(identifier: str, rows: Rows, row: int, seen: dict[str, int]) -> None:
    """Note in `seen` the line of a motif's identifier.

    Raises:
        CislensError: with file and line, if it was there.
    """
    if identifier in seen:
        raise rows.error(
            row,
            f"a second motif {identifier!r}, the first is on line {seen[identifier]}; identifiers "
            "must be unique.",
        )
    seen[identifier] = rows.numbers[row]


def find_motif(motifs: Sequence[Motif], name: str) -> Motif:
    """The motif whose identifier or second name this is, e.g. "MA0139.2" or "CTCF".

    Raises:
        CislensError: if there is none, or several.
    """
    found = [motif for motif in motifs if name == motif.name or name in motif.name.split()]
    if len(found) == 1:
        return found[0]
    if found:
        raise CislensError(
            f"{len(found)} motifs are called {name!r}: {', '.join(m.name for m in found)}; give "
            "the identifier."
        )
    known = [part for motif in motifs for part in motif.name.split()]
    raise CislensError(f"no motif is called {name!r}. {nearest(name, known)}")


def scan(
    sequences: Sequence[Codes], motif: Motif, p_value: float = 1e-4, stranded: bool = False
) -> pl.DataFrame:
    """All places where the motif scores as only `p_value` of random words do.

    The score is the log2 ratio of the motif to equally likely bases; its exact distribution over
    all words gives the threshold (Staden 1989, CABIOS 5:89). A word with an N is no hit.

    Returns:
        `sequence` (row), `start, end` (0-based half-open), `strand`, `score` (bits), by sequence
        and start.

    Raises:
        CislensError: if not even the best word is as rare as `p_value`.
    """
    length = max((len(codes) for codes in sequences), default=0)
    padded = np.full((len(sequences), length), N, np.uint8)
    for row, codes in zip(padded, sequences, strict=True):
        row[: len(codes)] = codes
    found = []
    strands = (("+", motif),) if stranded else (("+", motif), ("-", motif.reverse_complement()))
    for strand, matrix in strands:
        table = score_table(matrix)
        total = _totals(padded, table)
        rows, start = np.nonzero(total >= threshold(motif, p_value))
        score = total[rows, start] * _STEP
        found.append(
            pl.DataFrame({"sequence": rows, "start": start, "score": score}).select(
                "sequence", "start", end=pl.col("start") + len(motif), strand=pl.lit(strand),
                score="score",
            )
        )  # fmt: skip
    return pl.concat(found).sort("sequence", "start", "strand")


def annotate_sites(
    sequences: Sequence[Codes], motif: Motif, p_value: float = 1e-4, stranded: bool = False
) -> list[list[dict[str, int]]]:
    """The sites of each sequence as `{"start", "end"}`, 0-based half-open, overlaps joined.

    In the form that the column `sites` of a task takes; see `scan` for the arguments.
    """
    sites: list[list[dict[str, int]]] = [[] for _ in sequences]
    hits = scan(sequences, motif, p_value, stranded)
    for row, start, end in hits.select("sequence", "start", "end").iter_rows():
        mine = sites[row]
        if mine and start < mine[-1]["end"]:
            mine[-1]["end"] = max(end, mine[-1]["end"])
        else:
            mine.append({"start": start, "end": end})
    return sites


def score_table(motif: Motif) -> Scores:
    """Scores (W, 5) of A, C, G, T and N in each column, in steps of 0.01 bits; N is in no hit."""
    odds = np.log2(motif.probabilities_W4 + _PSEUDO) - np.log2(0.25)
    steps = np.rint(odds / _STEP).astype(np.int64)
    return np.concatenate([steps, np.full((len(motif), 1), _NEVER)], axis=1)


def threshold(motif: Motif, p_value: float) -> int:
    """The least score, in steps of 0.01 bits, that at most `p_value` of random words reach.

    Raises:
        CislensError: if even the best word is not that rare.
    """
    low, tail = _tail(motif)
    rare = np.flatnonzero(tail <= p_value)
    if not len(rare):
        raise CislensError(
            f"motif {motif.name} is too short or too vague: {tail[-1]:.1e} of random words fit it "
            f"best, more than {p_value:.1e}; give a larger p-value."
        )
    return low + int(rare[0])


def least_score(motif: Motif, p_value: float) -> int:
    """As `threshold`, but where not even the best word is that rare, the best word's score."""
    low, tail = _tail(motif)
    return low + int(np.flatnonzero(tail <= max(p_value, tail[-1]))[0])


def _tail(motif: Motif) -> tuple[int, npt.NDArray[np.float64]]:
    """The lowest score and the share of all words that reach it and each score above."""
    table = score_table(motif)[:, :4]
    low, high = int(table.min(1).sum()), int(table.max(1).sum())
    share = np.zeros(high - low + 1)
    share[0] = 1.0
    reach = 1
    for column in table:
        offsets = column - column.min()
        new = np.zeros_like(share)
        for offset in offsets.tolist():
            new[offset : offset + reach] += share[:reach] / 4
        share, reach = new, reach + int(offsets.max())
    return low, share[::-1].cumsum()[::-1]


def _matrix(rows: Rows, at: int) -> tuple[npt.NDArray[np.float64], int]:
    header = at - 1
    values: list[list[float]] = []
    while at < len(rows.fields) and _numeric(rows.fields[at][0]):
        try:
            row = [float(field) for field in rows.fields[at]]
        except ValueError:
            row = []
        if len(row) != 4 or min(row) < 0 or not 0.98 < sum(row) < 1.02:
            raise rows.error(
                at,
                f"{' '.join(rows.fields[at])!r} is not four probabilities of A, C, G, T that sum "
                "to one.",
            )
        values.append([value / sum(row) for value in row])
        at += 1
    if not values:
        raise rows.error(
            header, "a letter-probability matrix without rows; add them or remove the motif."
        )
    said = re.search(r"\bw=\s*(\d+)", " ".join(rows.fields[header]))
    if said and said[1].lstrip("0") != str(len(values)):
        raise rows.error(header, f"the matrix has {len(values)} rows, not w= {said[1]}.")
    return np.array(values), at


def _numeric(text: str) -> bool:
    return text.lstrip("-+.")[:1].isdigit()


def _totals(codes_nL: Codes, table_W5: Scores) -> Scores:
    width = codes_nL.shape[1] - len(table_W5) + 1
    total = np.zeros((len(codes_nL), max(0, width)), np.int64)
    for column, scores in enumerate(table_W5):
        total += scores[codes_nL[:, column : column + total.shape[1]]]
    return total
