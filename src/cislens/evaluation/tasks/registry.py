"""Which function makes the task of a recipe's section."""

from collections.abc import Callable
from typing import Any

from cislens.evaluation.tasks.controls import build_variants
from cislens.evaluation.tasks.exposure import without_seen
from cislens.evaluation.tasks.importers.bed import import_bed
from cislens.evaluation.tasks.importers.fasta import import_fasta
from cislens.evaluation.tasks.importers.genomic_benchmarks import import_genomic_benchmarks
from cislens.evaluation.tasks.importers.gue import import_gue
from cislens.evaluation.tasks.importers.saturation import import_saturation
from cislens.evaluation.tasks.importers.splicing import import_splicing
from cislens.evaluation.tasks.importers.table import import_table
from cislens.evaluation.tasks.importers.variants import import_traitgym, import_vcf
from cislens.evaluation.tasks.promoters import build_promoters
from cislens.evaluation.tasks.rbp import build_rbp
from cislens.evaluation.tasks.shuffled import build_shuffled
from cislens.evaluation.tasks.splice import build_splice
from cislens.evaluation.tasks.task import Task
from cislens.evaluation.tasks.tfbs import build_tfbs
from cislens.evaluation.training_stores import TrainingStore

# What has sequences or places of its own, by kind: (name, section, seed) -> task
IMPORTERS: dict[str, Callable[[str, Any, int], Task]] = {
    "table": import_table,
    "mpra": import_table,
    "fasta": import_fasta,
    "genomic_benchmarks": import_genomic_benchmarks,
    "gue": import_gue,
    "bed_labels": import_bed,
    "splicing": import_splicing,
    "saturation": import_saturation,
    "traitgym": import_traitgym,
    "vcf": import_vcf,
    "variants": build_variants,
}
# What may take its parts from a store's windows: (name, section, store, seed) -> task
BUILDERS: dict[str, Callable[[str, Any, TrainingStore | None, int], Task]] = {
    "promoters": build_promoters,
    "tfbs": build_tfbs,
    "rbp": build_rbp,
    "splice": build_splice,
    "shuffled": build_shuffled,
}
KINDS = frozenset(IMPORTERS) | frozenset(BUILDERS)


def make_section(name: str, section: Any, store: TrainingStore | None, seed: int) -> Task:
    """The task of a section whose kind is in `KINDS`.

    Args:
        store: gives examples on its genomes their parts; what it trains on is dropped from the
            test part of all other tasks.
    """
    if section.kind in IMPORTERS:
        task = IMPORTERS[section.kind](name, section, seed)
    else:
        task = BUILDERS[section.kind](name, section, store, seed)
    return without_seen(task, store)
