"""How much of each motif's transcription factor a cell type makes.

Dimensions: T motif (row of the matrix), C cell type.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from cislens.errors import CislensError, nearest
from cislens.motifs.counts import read_table
from cislens.motifs.windows import Bools, Floats

logger = logging.getLogger("cislens")


@dataclass(frozen=True)
class Expression:
    """Expression of the factors of motifs.

    Attributes:
        tpm_TC: the largest TPM of a motif's genes in each cell type, 0 where `missing_T`.
        missing_T: none of the motif's genes is in the table.
    """

    tpm_TC: Floats
    missing_T: Bools


def read_expression(
    path: str | Path, cells: Sequence[str], factors_T: Sequence[tuple[str, ...]]
) -> Expression:
    """Read TPM of genes (rows, column `gene`) in cell types (columns) for the genes of motifs.

    Genes are compared without regard to case. Of a motif with several genes (a dimer, or motifs
    joined to one) the largest value counts; genes that are not in the table are passed over.
    Tables are tab- or comma-separated, plain or gzip; rows and columns that nobody asks for are
    ignored.

    Raises:
        CislensError: for a table without the column `gene` or a cell type, a motif's gene that is
            listed twice or has a value that is no number from 0 on, or if no gene of any motif
            is there.
    """
    table = read_table(path, "expression table")
    for column in ("gene", *cells):
        if column not in table.columns:
            what = "column 'gene'" if column == "gene" else f"cell type {column!r}"
            raise CislensError(f"{path} has no {what}. {nearest(column, table.columns)}")
    wanted = {gene.upper() for factors in factors_T for gene in factors}
    table = table.with_columns(gene=pl.col("gene").cast(pl.String).str.to_uppercase())
    known = table.filter(pl.col("gene").is_in(list(wanted)))
    if known.is_empty():
        raise CislensError(
            f"{path} has no gene of any motif: the motifs want {_some(sorted(wanted))}, the table "
            f"has {_some(table['gene'].drop_nulls().to_list())}. Gene symbols are expected."
        )
    repeated = known.filter(pl.col("gene").is_duplicated())["gene"].unique().sort().to_list()
    if repeated:
        raise CislensError(
            f"{path} lists {len(repeated)} genes of motifs more than once ({_some(repeated)}); "
            "add up or remove the repeated rows."
        )
    tpm_GC = np.stack([_values(path, known, cell) for cell in cells], axis=1)
    return _of_motifs(path, tpm_GC, known["gene"].to_list(), factors_T)


def _of_motifs(
    path: str | Path, tpm_GC: Floats, genes: list[str], factors_T: Sequence[tuple[str, ...]]
) -> Expression:
    row = {gene: place for place, gene in enumerate(genes)}
    tpm_TC = np.zeros((len(factors_T), tpm_GC.shape[1]))
    missing_T = np.zeros(len(factors_T), bool)
    for motif, factors in enumerate(factors_T):
        rows = [row[gene.upper()] for gene in factors if gene.upper() in row]
        missing_T[motif] = not rows
        if rows:
            tpm_TC[motif] = tpm_GC[rows].max(axis=0)
    if missing_T.any():
        logger.warning("%s has no gene of %d of %d motifs", path, missing_T.sum(), len(missing_T))
    return Expression(tpm_TC, missing_T)


def _values(path: str | Path, table: pl.DataFrame, cell: str) -> Floats:
    values = table[cell].cast(pl.Float64, strict=False)
    bad = (values.is_null() | ~values.is_finite() | (values < 0)).fill_null(True).arg_true()
    if len(bad):
        first = int(bad[0])
        raise CislensError(
            f"{path}: {table['gene'][first]} in {cell!r} is {table[cell][first]!r}, expected TPM "
            f"from 0 on; {len(bad)} genes of motifs are so."
        )
    return values.to_numpy()


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
