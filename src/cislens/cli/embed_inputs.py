"""What `cislens embed` is given: a source of features, and sequences."""

from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING

from cislens.errors import CislensError, nearest
from cislens.files import require_file

if TYPE_CHECKING:
    from cislens.genome.codes import Codes
    from cislens.representations.contract import Representation
    from cislens.representations.worker_client import Runner

BASELINES = ("onehot-linear", "kmer-1to5", "kmer-1to6", "gkmer-10-6", "dinuc", "gc", "length")
RANDOM = ("all", "shuffle", "embed")


@dataclass(frozen=True)
class Source:
    """Which of the options that name a source were given."""

    model: Path | None
    family: str | None
    baseline: str | None
    runner: str | None
    adapter: Path | None
    argument: str | None
    name: str | None
    random: str | None = None
    draw: int = 0

    def open(self) -> "Representation | Runner":
        """The representation, or the other Python that has it.

        Raises:
            CislensError: for options that do not go together, or what opening it raises.
        """
        given = [self.model, self.baseline, self.runner]
        refuse(given.count(None) != 2, "name one of --model, --baseline and --runner")
        refuse(self.family is not None and self.model is None, "--family needs --model, its folder")
        refuse(
            (self.adapter is None) != (self.runner is None), "--runner and --adapter go together"
        )
        refuse(self.name is not None and self.model is None, "--name goes with --model")
        refuse(self.argument is not None and self.runner is None, "--argument goes with --runner")
        refuse(self.random is not None and self.model is None, "--random goes with --model")
        if self.runner is not None and self.adapter is not None:
            return _runner(self.runner, self.adapter, self.argument)
        if self.baseline is not None:
            return _baseline(self.baseline)
        assert self.model is not None
        found = _model(self.model, self.family, self.name or self.model.resolve().name)
        return found if self.random is None else _random(found, self.random, self.draw)


@dataclass(frozen=True)
class Sequences:
    """What is to be embedded, and what its origin says of it."""

    ids: list[str]
    codes: list["Codes"]
    species: str | None = None
    stranded: bool = False
    task: tuple[str, str] | None = None  # name and hash
    remapped: dict[str, int] = field(default_factory=dict)


def read_sequences(
    task: Path | None,
    fasta: Path | None,
    bed: Path | None,
    genome: Path | None,
    stranded: bool | None,
) -> Sequences:
    """The sequences of a task, a FASTA file, or intervals of a genome.

    Raises:
        CislensError: for options that do not go together, or what reading raises.
    """
    refuse([task, fasta, bed].count(None) != 2, "name one of --task, --fasta and --bed")
    refuse((bed is None) != (genome is None), "--bed and --genome go together")
    if task is not None:
        return _of_task(task)
    if fasta is not None:
        return _of_fasta(fasta)
    assert bed is not None and genome is not None
    return _of_bed(bed, genome, bool(stranded))


def refuse(wrong: bool, what: str) -> None:
    """Raise what is wrong with the options, if it is.

    Raises:
        CislensError: with where to read about them.
    """
    if wrong:
        raise CislensError(f"{what}; see `cislens embed --help`.")


def _runner(runner: str, adapter: Path, argument: str | None) -> "Runner":
    from cislens.representations.worker_client import Runner

    key, _, python = runner.partition("=")
    refuse(key != "python" or not python, f"--runner is python=INTERPRETER, not {runner!r}")
    return Runner(Path(python), adapter, argument)


def _model(folder: Path, family: str | None, name: str) -> "Representation":
    if family is not None:
        from cislens.representations.huggingface.families import load_huggingface

        return load_huggingface(family, folder, name)
    from cislens.models.saving import load_model
    from cislens.representations.encoder import EncoderEmbedding

    require_file(folder, "run or model folder")
    weights = folder / "model" if (folder / "model" / "config.json").exists() else folder
    return EncoderEmbedding(load_model(weights).encoder, name)


def _random(trained: "Representation", how: str, draw: int) -> "Representation":
    """The control of a model: all weights drawn anew, permuted, or the first layer drawn anew."""
    from cislens.representations.contract import Twinned

    if how not in RANDOM:
        raise CislensError(f"there is no control {how!r}. {nearest(how, RANDOM)}")
    if how == "all" and isinstance(trained, Twinned):
        return trained.twin(draw)
    control = None if how == "all" else getattr(trained, "control", None)
    if control is None:
        raise CislensError(f"{trained.name} has no control {how!r}; choose another, or none.")
    made: Representation = control(how, draw)
    return made


def _baseline(name: str) -> "Representation":
    from cislens.representations import baselines
    from cislens.representations.gapped import GappedKmers

    if name not in BASELINES:
        raise CislensError(f"there is no baseline {name!r}. {nearest(name, BASELINES)}")
    if name.startswith("kmer"):
        return baselines.KmerCounts(int(name[-1]))
    made: list[Representation] = [
        baselines.OneHot(), baselines.Dinucleotides(), baselines.GCContent(), baselines.Length(),
        GappedKmers(),
    ]  # fmt: skip
    return next(each for each in made if each.name == name)


def _of_task(folder: Path) -> Sequences:
    """All examples of a task; the alternate alleles of variants follow, marked `:alt`.

    Of sequences in parts each part is embedded by itself, marked `:1`, `:2`.
    """
    import numpy as np

    from cislens.evaluation.tasks.task import Task
    from cislens.genome.codes import encode

    task = Task.load(folder)
    frame, card = task.examples, task.card
    ids, sequences = frame["example_id"].to_list(), frame["sequence"].to_list()
    other = frame.filter(frame["alt_sequence"].is_not_null())
    ids += [f"{name}:alt" for name in other["example_id"]]
    sequences += other["alt_sequence"].to_list()
    codes = [encode(sequence) for sequence in sequences]
    if card.parts and card.kind != "variant":
        ends = list(accumulate(card.parts))
        ids = [f"{name}:{part}" for name in ids for part in range(1, len(ends) + 1)]
        codes = [piece for whole in codes for piece in np.split(whole, ends[:-1])]
    return Sequences(ids, codes, card.species, card.stranded, (card.name, task.task_hash))


def _of_fasta(path: Path) -> Sequences:
    from cislens.genome.reference import open_genome

    records = open_genome(path)
    ids = list(records.chrom_sizes)
    sequences = [records.fetch(name, 0, size) for name, size in records.chrom_sizes.items()]
    found: dict[str, int] = {}
    for name in ids:
        for symbol, count in records.ambiguous_bases(name).items():
            found[symbol] = found.get(symbol, 0) + count
    return Sequences(ids, sequences, remapped=found)


def _of_bed(path: Path, genome: Path, stranded: bool) -> Sequences:
    """Intervals as `chrom:start-end`; on the strand that the file names where that is asked."""
    from cislens.evaluation.tasks.genomic import on_genome
    from cislens.genome.codes import reverse_complement
    from cislens.genome.intervals import read_intervals
    from cislens.genome.reference import open_genome

    reference, intervals = open_genome(genome), read_intervals(path)
    rows = on_genome(intervals, reference, path)
    if len(rows) < len(intervals):
        raise CislensError(
            f"{path}: {len(intervals) - len(rows)} intervals lie on chromosomes that {genome} does "
            "not have; remove them or give the genome they belong to."
        )
    if stranded and "strand" not in rows.columns:
        raise CislensError(f"{path} names no strand; add that column, or leave out --stranded.")
    ids, sequences = [], []
    for row in rows.iter_rows(named=True):
        codes = reference.fetch(row["chrom"], row["start"], row["end"])
        flipped = stranded and row["strand"] == "-"
        strand = f":{row['strand']}" if stranded else ""
        ids.append(f"{row['chrom']}:{row['start']}-{row['end']}{strand}")
        sequences.append(reverse_complement(codes) if flipped else codes)
    return Sequences(ids, sequences)
