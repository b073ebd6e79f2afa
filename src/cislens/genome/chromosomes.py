"""Matching the chromosome names of one file to those of another, in the open."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass

import polars as pl

from cislens.errors import CislensError

logger = logging.getLogger("cislens")

_MITOCHONDRION = frozenset({"M", "MT", "MITO", "MTDNA", "MITOCHONDRION"})
_NUMERALS = (
    "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X",
    "XI", "XII", "XIII", "XIV", "XV", "XVI", "XVII", "XVIII", "XIX", "XX",
)  # fmt: skip
_ROMAN = {numeral: str(number) for number, numeral in enumerate(_NUMERALS, 1)}


class NoCommonChromosomeError(CislensError):
    """No chromosome of a file is in the genome."""


@dataclass(frozen=True)
class ChromosomeMap:
    """How names of a file translate to the names of the genome.

    Attributes:
        mapping: found name -> known name, for every name that has a counterpart.
        report: what was renamed and what was left out, for people.
    """

    mapping: dict[str, str]
    report: str

    def rename(self, intervals: pl.DataFrame) -> pl.DataFrame:
        """Intervals under the known names; those without a counterpart are dropped."""
        chrom = pl.col("chrom")
        return intervals.filter(chrom.is_in(list(self.mapping))).with_columns(
            chrom=chrom.replace(self.mapping)
        )


def match_names(found: Iterable[str], known: Iterable[str], source: str) -> ChromosomeMap:
    """Match the names `found` in `source` to the `known` names of a genome.

    Equal names match first. Then `1` and `chr1`, `MT` and `chrM`, and Roman and Arabic numbers
    match, the last only where one side counts in Roman numbers beyond doubt (it has II, III or
    IV), so that a chromosome X is not taken for the tenth. Anything but equal names
    is reported in the log.

    Raises:
        NoCommonChromosomeError: if no name matches.
        CislensError: if two names match the same chromosome.
    """
    found, known = list(dict.fromkeys(found)), list(dict.fromkeys(known))
    mapping = {name: name for name in found if name in set(known)}
    roman = _counts_in_roman(found) != _counts_in_roman(known)
    bare = {_key(name, roman=False): name for name in known}
    counted = {_key(name, roman and _counts_in_roman(known)): name for name in known}
    for name in found:
        # A Roman number by itself, such as XVI, is first looked up as it is written.
        counterpart = bare.get(_key(name, roman=False))
        if counterpart is None:
            counterpart = counted.get(_key(name, roman and _counts_in_roman(found)))
        if name not in mapping and counterpart is not None:
            mapping[name] = counterpart
    _require_one_to_one(mapping, source)
    if not mapping:
        raise NoCommonChromosomeError(
            f"no chromosome of {source} is in the genome: {source} has {_some(found)}, the genome "
            f"has {_some(known)}. They belong to different assemblies or species."
        )
    report = _report(found, mapping, source)
    if len(mapping) < len(found):
        logger.warning(report)
    elif any(name != counterpart for name, counterpart in mapping.items()):
        logger.info(report)
    return ChromosomeMap({name: mapping[name] for name in found if name in mapping}, report)


def _bare(name: str) -> str:
    bare = name.upper()
    for prefix in ("CHROMOSOME", "CHR"):
        bare = bare.removeprefix(prefix)
    return bare.lstrip("_")


def _key(name: str, roman: bool) -> str:
    bare = _bare(name)
    if bare in _MITOCHONDRION:
        return "M"
    return _ROMAN.get(bare, bare) if roman else bare


def _counts_in_roman(names: list[str]) -> bool:
    return not {"II", "III", "IV"}.isdisjoint(_bare(name) for name in names)


def _require_one_to_one(mapping: dict[str, str], source: str) -> None:
    taken: dict[str, str] = {}
    for name, counterpart in mapping.items():
        if counterpart in taken:
            raise CislensError(
                f"{source} has both {taken[counterpart]!r} and {name!r}, which would both be "
                f"{counterpart!r} of the genome; rename or remove one."
            )
        taken[counterpart] = name


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")


def _report(found: list[str], mapping: dict[str, str], source: str) -> str:
    lines = [f"{source}: {len(mapping)} of {len(found)} chromosome names are in the genome."]
    renamed = [f"{name} -> {known}" for name, known in mapping.items() if name != known]
    if renamed:
        lines.append(f"Renamed: {', '.join(renamed)}.")
    lost = [name for name in found if name not in mapping]
    if lost:
        lines.append(f"Left out: {_some(lost)}.")
    return " ".join(lines)
