import subprocess
import sys

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from cislens.genome.codes import (
    N,
    ambiguous,
    decode,
    encode,
    gc_content,
    one_hot,
    reverse_complement,
)

some_codes = arrays(np.uint8, array_shapes(max_dims=3, max_side=20), elements=st.integers(0, 4))


def test_encode_is_case_blind_and_reads_u_as_t():
    assert encode("ACGTNUacgtnu").tolist() == [0, 1, 2, 3, 4, 3] * 2
    assert encode(b"ACGT").dtype == np.uint8


def test_iupac_codes_become_n_and_are_counted():
    assert encode("ARYSWKM").tolist() == [0] + [N] * 6
    assert ambiguous("ARrYNu-") == {"R": 2, "Y": 1, "-": 1}
    assert encode("A\u00e9C").tolist() == [0, N, 1]


@given(st.text("ACGTN"))
def test_decode_undoes_encode(sequence):
    assert decode(encode(sequence)) == sequence


@given(some_codes)
def test_reverse_complement_twice_is_the_identity(codes):
    assert np.array_equal(reverse_complement(reverse_complement(codes)), codes)


@given(some_codes)
def test_reverse_complement_flips_channels_and_positions_of_the_one_hot(codes):
    turned = one_hot(reverse_complement(codes))
    assert np.array_equal(turned, one_hot(codes)[..., ::-1, ::-1])


@given(some_codes)
def test_one_hot_marks_each_called_base_once_and_n_never(codes):
    hot = one_hot(codes)
    assert hot.shape == (*codes.shape[:-1], 4, codes.shape[-1])
    assert hot.dtype == np.float32
    assert np.array_equal(hot.sum(-2), (codes != N).astype(np.float32))
    assert np.array_equal(hot.argmax(-2)[codes != N], codes[codes != N])


def test_gc_content_is_over_called_bases_and_one_half_without_any():
    codes = np.stack([encode("GCAN"), encode("NNNN"), encode("ATTA")])
    assert gc_content(codes).tolist() == [2 / 3, 0.5, 0.0]


def test_the_genome_package_needs_no_torch():
    modules = "annotation chromosomes homology intervals reference sampling shuffling splits"
    code = "import sys\n" + "".join(f"import cislens.genome.{m}\n" for m in modules.split())
    code += "assert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
