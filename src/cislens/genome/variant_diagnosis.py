"""The report on a file of variants, and a guess in words at what is wrong with it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cislens.errors import CislensError
from cislens.genome.assemblies import Assembly, bare_name, identify, named_in, that_reach
from cislens.genome.reference import Genome
from cislens.genome.variant_checks import REASONS, WRONG
from cislens.genome.variant_stream import VariantHeader

_LIMIT = 0.001  # share of wrong alleles that needs no explanation
_CHANCE = 0.45  # unrelated bases agree in about 0.25 to 0.35
_MOST = 0.8
_FEW = 10  # alleles that may all fit by chance


@dataclass
class Evidence:
    """What a doctor counts.

    Attributes:
        kept: alleles without fault.
        reasons: alleles left out, by reason.
        bases: of single bases, what fits; see `variant_checks.judge_reference`.
        unknown: alleles by the name of a chromosome that the genome lacks.
        last: largest position by chromosome of the genome.
        examples: some alleles whose `ref` is wrong, as the file has them.
        foreign: why no chromosome's name so far is in the genome, "" if one is.
    """

    kept: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    bases: Counter[str] = field(default_factory=Counter)
    unknown: Counter[str] = field(default_factory=Counter)
    last: dict[str, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)
    foreign: str = ""


@dataclass(frozen=True)
class DoctorReport:
    """What is wrong with a file of variants.

    Attributes:
        source: the file's name.
        genome: the genome's file.
        assembly: what the genome is by the lengths of its chromosomes, "" if unknown.
        alleles: alternate alleles examined.
        kept: those without fault, each once.
        left_out: counts by reason.
        renamed: chromosomes of the file under another name in the genome.
        unknown: alleles on chromosomes that the genome lacks, by name.
        checked: alleles that could be looked up in the genome.
        share_wrong: the part of these whose `ref` is not what the genome has there, or that lie
            beyond the end of their chromosome.
        guess: what is probably wrong, "" if nothing is.
        contradicted: whether the header gives other lengths to chromosomes than the genome.
        examples: some wrong alleles.
    """

    source: str
    genome: str
    assembly: str
    alleles: int
    kept: int
    left_out: dict[str, int]
    renamed: dict[str, str]
    unknown: dict[str, int]
    checked: int
    share_wrong: float
    guess: str
    contradicted: bool
    examples: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as for JSON."""
        return {**vars(self), "examples": list(self.examples)}

    def text(self) -> str:
        """Lines for people."""
        named = f", which is {self.assembly}" if self.assembly else ""
        lines = [
            f"{self.source}: {self.kept} of {counted(self.alleles, 'allele')} kept for "
            f"{self.genome}{named}."
        ]
        lines += [
            f"  {count} left out: {_WORDS[reason]}" for reason, count in self.left_out.items()
        ]
        if self.renamed:
            some = [f"{name} -> {known}" for name, known in self.renamed.items()]
            lines.append(f"Chromosomes renamed: {_some(some)}.")
        if self.unknown:
            lines.append(f"Chromosomes that the genome lacks: {_some(list(self.unknown))}.")
        if self.guess:
            lines.append(self.guess)
        return "\n".join(lines)

    def require(self, limit: float = _LIMIT) -> None:
        """Refuse a file of which more than a share `limit` is wrong, or of which nothing is left.

        Raises:
            CislensError: with the guess.
        """
        if not self.kept and not self.share_wrong > limit:
            reasons = ", ".join(f"{count} {reason}" for reason, count in self.left_out.items())
            raise CislensError(
                f"{self.source}: none of {counted(self.alleles, 'allele')} can be scored"
                f"{f' ({reasons})' if reasons else ''}. {self.guess}".rstrip()
            )
        if self.share_wrong <= limit and self.contradicted and self.checked < _FEW:
            raise CislensError(
                f"{self.source}: {counted(self.checked, 'allele')} "
                f"{'is' if self.checked == 1 else 'are'} too few to tell whether its header is "
                f"wrong. {self.guess}"
            )
        if self.share_wrong > limit:
            examples = f", e.g. {', '.join(self.examples)}" if self.examples else ""
            raise CislensError(
                f"{self.source}: in {self.share_wrong:.1%} of {counted(self.checked, 'allele')} "
                f"(allowed {limit:.1%}) ref is not what {self.genome} has at their position"
                f"{examples}. {self.guess}"
            )


_WORDS = {
    "missing": "a chromosome, position or allele is missing",
    "star": "* stands for a deletion elsewhere",
    "breakend": "breakends have no sequence",
    "symbolic": "symbolic alleles such as <DEL> have no sequence",
    "not_bases": "alleles with other letters than A, C, G, T",
    "same_alleles": "ref and alt are the same",
    "unknown_chromosome": "the genome lacks their chromosome",
    "beyond_end": "beyond the end of their chromosome",
    "flipped": "alt, not ref, is what the genome has",
    "other_strand": "the reverse complement of ref is what the genome has",
    "ref_mismatch": "ref is not what the genome has",
    "duplicate": "repeats of an earlier allele",
}


def report_of(
    evidence: Evidence, genome: Genome, source: str, header: VariantHeader,
    names: Mapping[str, str], found: Sequence[str],
) -> DoctorReport:  # fmt: skip
    """The report on all that was counted."""
    reasons = evidence.reasons
    wrong = sum(reasons[reason] for reason in (*WRONG, "beyond_end"))
    checked = evidence.kept + reasons["duplicate"] + wrong
    share = wrong / checked if checked else 0.0
    own = identify(genome.chrom_sizes)
    conflict = _conflict(header, genome)
    return DoctorReport(
        source=source,
        genome=genome.path.name,
        assembly=own.label if own else "",
        alleles=evidence.kept + reasons.total(),
        kept=evidence.kept,
        left_out={reason: reasons[reason] for reason in REASONS if reasons[reason]},
        renamed={name: known for name, known in names.items() if name != known},
        unknown=dict(evidence.unknown.most_common()),
        checked=checked,
        share_wrong=share,
        guess=" ".join(_guesses(evidence, share, own, conflict, header, source, genome)),
        contradicted=bool(conflict),
        examples=tuple(evidence.examples),
    )


def _guesses(
    evidence: Evidence, share: float, own: Assembly | None, conflict: str,
    header: VariantHeader, source: str, genome: Genome,
) -> list[str]:  # fmt: skip
    words = [text for text in (evidence.foreign, conflict) if text]
    if share <= _LIMIT:
        return words
    bases, beyond = evidence.bases, evidence.reasons["beyond_end"]
    pattern = _pattern(bases)
    if pattern:
        return [*words, pattern]
    by_chance = bases["n"] >= _FEW and bases["match"] < _CHANCE * bases["n"]
    if by_chance:
        words.append(
            f"Only {bases['match'] / bases['n']:.1%} of {bases['n']} single bases match, as by "
            "chance: the variants are of another assembly."
        )
    if beyond:
        words.append(f"{beyond} lie beyond the end of their chromosome.")
    named = "" if conflict else _named(evidence, own, header, source, genome)
    if named:
        words.append(named)
    elif by_chance and own and not conflict:
        words.append(f"The genome is {own.label}; lift the file over to it.")
    return words or ["The wrong ones follow no pattern; correct the file, or leave them out."]


def _pattern(bases: Counter[str]) -> str:
    """A fault that every wrong single base shares."""
    n, match = bases["n"], bases["match"]
    wrong = n - match
    for name, advice in (
        ("later", "the positions are 0-based; add 1"),
        ("earlier", "the positions are one too high; subtract 1"),
    ):
        if n >= _FEW and bases[name] > max(0.9 * n, match):
            return f"{bases[name] / n:.1%} match with another position: {advice}."
    if wrong and bases["alt"] >= _MOST * wrong:
        also = " (or they are of the other strand)" if bases["complement"] >= _MOST * wrong else ""
        return (
            f"In {bases['alt']} of the {wrong} wrong single bases ({wrong / n:.1%} of all) ref and "
            f"alt are swapped{also}: exchange them, and the sign of signed effects."
        )
    if wrong and bases["complement"] >= _MOST * wrong:
        return (
            f"{bases['complement']} of the {wrong} wrong single bases ({wrong / n:.1%} of all) are "
            "written on the other strand: complement both alleles."
        )
    return ""


def _named(
    evidence: Evidence, own: Assembly | None, header: VariantHeader, source: str, genome: Genome
) -> str:
    """Which assembly the file is of, by its header, its name or its positions; "" if none says."""
    mine = f"the genome is {own.label}" if own else f"the genome is {genome.name}"
    for where, text in (
        ("Its header", f"{header.reference} {header.assembly}"),
        ("Its name", source),
    ):
        other = named_in(text)
        if other and other != own:
            return f"{where} says {other.label}, {mine}: lift it over, or give that genome."
    if own and evidence.reasons["beyond_end"]:
        fitting = that_reach(evidence.last, own.species)
        if fitting and own not in fitting:  # else only positions before the first base are wrong
            labels = " and in ".join(assembly.label for assembly in fitting)
            return f"All positions exist in {labels}; {mine}."
    return ""


def _conflict(header: VariantHeader, genome: Genome) -> str:
    """What the header says of a chromosome's length against what the genome says."""
    sizes = {bare_name(name): size for name, size in genome.chrom_sizes.items()}
    other, own = identify(header.contigs), identify(genome.chrom_sizes)
    if own is not None and other is own:
        return ""  # unplaced contigs, or the two mitochondria that go with hg19
    for name, length in header.contigs.items():
        size = sizes.get(bare_name(name), length)
        if size != length:
            return (
                f"By the header {name} has {length} bp{f', as in {other.label}' if other else ''}; "
                f"in {genome.path.name} it has {size}{f', as in {own.label}' if own else ''}: lift "
                "the file over, or give its own genome."
            )
    return ""


def counted(count: int, word: str) -> str:
    """A number with its noun."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
