import numpy as np
import pytest

from cislens.errors import CislensError
from cislens.motifs.expression import read_expression

TEXT = "gene\tliver\tbrain\nCTCF\t5\t7\nFos\t1\t0\nJUN\t3\t0.5\nACTB\tNA\t9\n"


@pytest.fixture
def expression(tmp_path):
    def read(text, cells, factors):
        path = tmp_path / "tpm.tsv"
        path.write_text(text)
        return read_expression(path, cells, factors)

    return read


def test_the_largest_of_a_motifs_genes_counts_in_the_order_of_the_cells_asked_for(expression):
    found = expression(TEXT, ["brain", "liver"], [("CTCF",), ("FOS", "JUN"), ("JUN", "NONE")])
    assert found.tpm_TC.tolist() == [[7, 5], [0.5, 3], [0.5, 3]]
    assert not found.missing_T.any()


def test_the_order_of_rows_and_columns_makes_no_difference(expression):
    factors = [("CTCF",), ("FOS", "JUN")]
    first = expression(TEXT, ["liver", "brain"], factors)
    other = "brain,gene,liver\n0.5,JUN,3\n9,ACTB,\n0,FOS,1\n7,CTCF,5\n"
    assert np.array_equal(expression(other, ["liver", "brain"], factors).tpm_TC, first.tpm_TC)


def test_a_motif_without_a_gene_in_the_table_is_missing_and_told(expression, caplog):
    found = expression(TEXT, ["liver"], [("CTCF",), ("SOX2",), ()])
    assert found.missing_T.tolist() == [False, True, True]
    assert found.tpm_TC.tolist() == [[5], [0], [0]]
    assert "no gene of 2 of 3 motifs" in caplog.text


@pytest.mark.parametrize(
    ("text", "cells", "message"),
    [
        (TEXT, ["liver", "brian"], "no cell type 'brian'. Did you mean 'brain'"),
        (TEXT.replace("gene", "symbol"), ["liver"], "no column 'gene'"),
        (TEXT + "ctcf\t1\t1\n", ["liver"], r"1 genes of motifs more than once \(CTCF\)"),
        (TEXT.replace("JUN\t3", "JUN\tNA"), ["liver"], "JUN in 'liver' is None, expected TPM"),
        (TEXT.replace("JUN\t3", "JUN\t-3"), ["liver"], "JUN in 'liver' is -3.*1 genes of motifs"),
        (
            "gene\tliver\nENSG01\t5\nENSG02\t7\n", ["liver"],
            "no gene of any motif: the motifs want CTCF, FOS, JUN, the table has ENSG01, ENSG02",
        ),
    ],
)  # fmt: skip
def test_a_table_that_does_not_fit_says_why(expression, text, cells, message):
    with pytest.raises(CislensError, match=message):
        expression(text, cells, [("CTCF",), ("FOS", "JUN")])


def test_a_value_that_no_motif_asks_for_is_ignored(expression):
    assert expression(TEXT, ["liver"], [("CTCF",)]).tpm_TC.tolist() == [[5]]
