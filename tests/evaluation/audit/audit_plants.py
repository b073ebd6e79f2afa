"""Clean tables, and the faults that are planted into them."""

from dataclasses import replace

import numpy as np
import polars as pl

from cislens.evaluation.audit.table import AuditTable, Places
from cislens.genome.codes import reverse_complement
from cislens.randomness import generator

TRAIN, TEST = 1200, 500


def clean(seed, length=200, positives=None, train=TRAIN, test=TEST):
    """Random sequences with labels that nothing tells; `positives(rng, n)` draws those of 1."""
    rng = generator(seed, "clean")
    n = train + test
    y = rng.permutation(np.arange(n) % 2)
    sequences = list(rng.integers(0, 4, (n, length), np.uint8))
    if positives is not None:
        for row, drawn in zip(np.flatnonzero(y), positives(rng, int(y.sum())), strict=True):
            sequences[row] = drawn
    return AuditTable(
        name="planted",
        frame=pl.DataFrame({"_file": ["planted.csv"] * n, "_row": np.arange(n) + 2}),
        split=np.array(["train"] * train + ["test"] * test),
        y_NT=y[:, None].astype(float),
        classes=("0", "1"),
        sequences=tuple(sequences),
    )


def copied(table, share, change, seed):
    """The table with a share of its test rows (spread over both classes) replaced by changed
    copies of train rows of the same class."""
    rng = generator(seed, "copied")
    sequences = list(table.sequences)
    chosen = rng.permutation(table.of("test"))[: round(share * len(table.of("test")))]
    label = table.y_NT[:, 0]
    train = rng.permutation(table.of("train"))
    sources = {number: iter(train[label[train] == number].tolist()) for number in (0, 1)}
    for row in chosen.tolist():
        sequences[row] = change(sequences[next(sources[label[row]])], rng)
    return replace(table, sequences=tuple(sequences)), np.sort(chosen)


def same(sequence, rng):
    return sequence.copy()


def other_strand(sequence, rng):
    return reverse_complement(sequence)


def mutated(identity, indels=2):
    """A function that mutates to an identity, with short insertions and deletions, and turns
    every other copy to the other strand."""

    def change(sequence, rng):
        copy = sequence.copy()
        places = rng.choice(len(copy), round((1 - identity) * len(copy)) - indels, replace=False)
        copy[places] = (copy[places] + rng.integers(1, 4, len(places))) % 4
        for _ in range(indels):
            place = int(rng.integers(20, len(copy) - 20))
            if rng.random() < 0.5:
                copy = np.delete(copy, place)
            else:
                copy = np.insert(copy, place, rng.integers(0, 4, dtype=np.uint8))
        return reverse_complement(copy) if rng.random() < 0.5 else copy

    return change


def placed(seed, share=0.0, train=TRAIN, test=TEST, width=200):
    """Intervals far from each other on five chromosomes; a share of test moved onto train."""
    rng = generator(seed, "placed")
    n = train + test
    slots = rng.permutation(4 * n)[:n]
    chrom = np.array([f"chr{slot % 5 + 1}" for slot in slots])
    start = slots // 5 * 3000 + rng.integers(0, 500, n)
    moved = rng.permutation(np.arange(train, n))[: round(share * test)]
    source = rng.choice(train, len(moved), replace=False)
    chrom[moved], start[moved] = chrom[source], start[source] + width // 4
    y = rng.permutation(np.arange(n) % 2)
    y[moved] = y[source]
    return AuditTable(
        name="planted",
        frame=pl.DataFrame({"_file": ["planted.bed"] * n, "_row": np.arange(n) + 1}),
        split=np.array(["train"] * train + ["test"] * test),
        y_NT=y[:, None].astype(float),
        classes=("0", "1"),
        chrom=chrom,
        places=Places(chrom, start, start + width),
        design="fold",
    )


def verdicts(report):
    """Names of the checks that did not pass, with their verdict; skipped ones are left out."""
    return {c.name: c.verdict for c in report.checks if c.verdict in ("warn", "fail")}
