"""Compiled loops of the motif scan; imported only where a scan is asked for, as it needs numba.

A word of `WORD` letters has a number, and a motif is cut into as many pieces of that width. A
table holds what each word adds to (or, where scores are ratios, by how much it multiplies) the
score of each of `LANES` matrices in each piece; a placement then costs one vector load and one
vector operation a piece. An N is a fifth letter, and so is whatever lies beyond the end: it makes
placements that touch it worthless, and columns that pad the last piece do not mind it.

Dimensions: R region, L base, P word, V matrix (lane), W column, C piece, K word, 5 letter.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.extending import intrinsic

from cislens.genome.codes import Codes, N

WORD = 4
LANES = 32
WORDS = 5**WORD
_SPAN = 512  # placements summed in float32 before float64 takes over

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
Words = npt.NDArray[np.uint16]
Ints = npt.NDArray[np.int64]
F = TypeVar("F", bound=Callable[..., Any])


def _compiled(function: F) -> F:
    compiled: Any = numba.njit(nogil=True, cache=True)(function)
    return cast(F, compiled)


@_compiled
def word_numbers(codes_RL: Codes, pad: int) -> Words:
    """Numbers (R, L + pad) of the words that start at each base, with N beyond the end."""
    regions, length = codes_RL.shape
    words_RP = np.empty((regions, length + pad), np.uint16)
    for r in range(regions):
        number = WORDS - 1
        for p in range(length + pad - 1, -1, -1):
            letter = codes_RL[r, p] if p < length else N
            number = number // 5 + min(letter, N) * (WORDS // 5)
            words_RP[r, p] = number
    return words_RP


@_compiled
def fill_table(scores_W5V: Doubles, products: bool, table_CKV: Floats) -> None:
    """What each word adds to the score of each matrix, or multiplies it by, in each piece."""
    width, _, lanes = scores_W5V.shape
    entry_V = np.empty(lanes)
    for c in range(table_CKV.shape[0]):
        for word in range(WORDS):
            entry_V[:] = 1.0 if products else 0.0
            rest = word
            for place in range(WORD - 1, -1, -1):
                letter = rest % 5
                rest //= 5
                column = c * WORD + place
                if column < width and products:
                    for v in range(lanes):
                        entry_V[v] *= scores_W5V[column, letter, v]
                elif column < width:
                    for v in range(lanes):
                        entry_V[v] += scores_W5V[column, letter, v]
            for v in range(lanes):
                table_CKV[c, word, v] = entry_V[v]


@_compiled
def count_placements(codes_RL: Codes, widths: Ints) -> Ints:
    """How many words (R, widths) of each width hold no N, on one strand."""
    regions, length = codes_RL.shape
    counts = np.zeros((regions, len(widths)), np.int64)
    for r in range(regions):
        run = 0
        for p in range(length + 1):
            if p < length and codes_RL[r, p] < N:
                run += 1
                continue
            for w in range(len(widths)):
                counts[r, w] += max(0, run - widths[w] + 1)
            run = 0
    return counts


@_compiled
def log_sum(codes_L: Codes, odds_VW4: Doubles) -> float:
    """Logarithm of the sum over placements of exp(score) for any range of scores, in float64."""
    matrices, width, _ = odds_VW4.shape
    peak, total = -np.inf, 0.0
    for p in range(len(codes_L) - width + 1):
        for v in range(matrices):
            score = 0.0
            for w in range(width):
                letter = codes_L[p + w]
                score += odds_VW4[v, w, letter] if letter < N else -np.inf
            if score > peak:
                total = total * np.exp(peak - score) + 1.0
                peak = score
            elif score > -np.inf:
                total += np.exp(score - peak)
    return float(peak + np.log(total)) if total > 0 else -np.inf


@cache
def scanner(pieces: int, products: bool) -> Callable[[Floats, Words, int, Floats], Floats]:
    """The scan with matrices of a number of pieces.

    The function takes table_CKV, words_RP, the number of placements and least_V, and gives, for
    each two neighboring matrices together, (R, V / 2): for products the sum over placements of the
    product of their words' entries, else how many placements have entries whose sum is at least
    `least_V`.
    """
    span = _span(pieces, products)

    def scan(table_CKV: Floats, words_RP: Words, placements: int, least_V: Floats) -> Floats:
        regions, stride = words_RP.shape
        found_Rv = np.empty((regions, LANES // 2), np.float32)
        total_V = np.empty(LANES)
        part_V = np.empty(LANES, np.float32)
        for r in range(regions):
            total_V[:] = 0.0
            for first in range(0, placements, _SPAN):
                count = min(_SPAN, placements - first)
                span(table_CKV, words_RP, r * stride + first, count, least_V, part_V)
                for v in range(LANES):
                    total_V[v] += part_V[v]
            for v in range(LANES // 2):
                found_Rv[r, v] = total_V[2 * v] + total_V[2 * v + 1]
        return found_Rv

    return _compiled(scan)


def _span(pieces: int, products: bool) -> Any:
    # Written out as vector instructions: compilers do not see that the sums may stay in registers,
    # and without that the loop is some twenty times as slow.
    vector = ir.VectorType(ir.FloatType(), LANES)
    index = ir.IntType(64)

    def pointer(context: Any, builder: Any, kind: Any, array: Any, to: Any = None) -> Any:
        data = context.make_array(kind)(context, builder, array).data
        return builder.bitcast(data, to.as_pointer()) if to else data

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        kinds = signature.args
        table = pointer(context, builder, kinds[0], args[0], vector)
        words = pointer(context, builder, kinds[1], args[1])
        least = builder.load(pointer(context, builder, kinds[4], args[4], vector), align=4)
        out = pointer(context, builder, kinds[5], args[5], vector)
        zero, one = ir.Constant(vector, [0.0] * LANES), ir.Constant(vector, [1.0] * LANES)

        before = builder.block
        loop = builder.append_basic_block("placement")
        after = builder.append_basic_block("after")
        builder.branch(loop)
        builder.position_at_end(loop)
        place, total = builder.phi(index), builder.phi(vector)
        place.add_incoming(ir.Constant(index, 0), before)
        total.add_incoming(zero, before)
        at = builder.add(place, args[2])
        score = None
        for piece in range(pieces):
            number = builder.gep(words, [builder.add(at, ir.Constant(index, piece * WORD))])
            row = builder.zext(builder.load(number), index)
            row = builder.add(row, ir.Constant(index, piece * WORDS))
            entry = builder.load(builder.gep(table, [row]), align=4)
            combine = builder.fmul if products else builder.fadd
            score = entry if score is None else combine(score, entry)
        if not products:
            score = builder.select(builder.fcmp_ordered(">=", score, least), one, zero)
        new = builder.fadd(total, score)
        following = builder.add(place, ir.Constant(index, 1))
        place.add_incoming(following, loop)
        total.add_incoming(new, loop)
        builder.cbranch(builder.icmp_signed("<", following, args[3]), loop, after)
        builder.position_at_end(after)
        builder.store(new, out, align=4)
        return context.get_dummy_value()

    def span(typing: Any, table: Any, words: Any, at: Any, count: Any, least: Any, out: Any) -> Any:
        whole = numba.types.int64
        return numba.types.void(table, words, whole, whole, least, out), codegen

    return intrinsic(span)
