"""A genome with genes, a small model of three tracks, and a VCF with every kind of record."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cislens.genome.codes import decode
from cislens.genome.reference import Genome, open_genome
from cislens.models.presets import preset_config
from cislens.models.profile import build_model
from cislens.models.saving import save_model
from cislens.randomness import generator
from cislens.signal.datacard import FILE_NAME, DataCard
from cislens.signal.tracks import Track, track_table

HEADER = (
    "##fileformat=VCFv4.2\n##source=somebody\n##contig=<ID=1,length=40000>\n"
    "##contig=<ID=2,length=20000>\n"
    '##INFO=<ID=AC,Number=A,Type=Integer,Description="Count">\n'
    # pysam gives it to records with <DEL>.
    '##INFO=<ID=END,Number=1,Type=Integer,Description="Last base">\n'
    '##FILTER=<ID=low,Description="Low">\n'
    '##ALT=<ID=DEL,Description="Deletion">\n'
    '##FORMAT=<ID=GT,Number=1,Type=String,Description="Genotype">\n'
    "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\tFORMAT\ts1\n"
)


@pytest.fixture(scope="session")
def toy_genome(tmp_path_factory: pytest.TempPathFactory) -> Genome:
    """chr1 of 40 kb and chr2 of 20 kb."""
    path = tmp_path_factory.mktemp("toy") / "toy.fa"
    bases = decode(generator("toy").integers(0, 4, 60_000).astype(np.uint8))
    path.write_text(f">chr1\n{bases[:40_000]}\n>chr2\n{bases[40_000:]}\n")
    return open_genome(path)


@pytest.fixture(scope="session")
def toy_genes(toy_genome: Genome) -> Path:
    """Two genes on chr1 and one on chr2, as GTF."""
    path = toy_genome.path.with_name("genes.gtf")
    rows = [("chr1", 5_001, 6_000, "+", "LEFT1"), ("chr1", 32_001, 33_000, "-", "RIGHT1"),
            ("chr2", 9_001, 9_900, "+", "OTHER2")]  # fmt: skip
    path.write_text(
        "".join(
            f'{c}\ttest\tgene\t{s}\t{e}\t.\t{strand}\t.\tgene_id "G{n}"; gene_name "{n}";\n'
            for c, s, e, strand, n in rows
        )
    )
    return path


@pytest.fixture(scope="session")
def toy_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained model of three tracks of two groups, windows of 512 bp."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model(
            preset_config("space-plus-tiny", {"toy": ["a", "b", "c,d"]}, crop=0, dim=24, stem_dim=8)
        )
        with torch.no_grad():
            for weights in model.parameters():
                if weights.ndim > 1:
                    weights.mul_(3)  # so that a base changes the tracks by more than rounding
    tracks = [
        Track("a", "a.bw", "toy", assay="ATAC"),
        Track("b", "b.bw", "toy", assay="CHIP", target="H3K27ac"),
        Track("c,d", "c.bw", "toy", assay="ATAC"),
    ]
    folder = tmp_path_factory.mktemp("toy-model") / "model"
    save_model(model, folder, "# toy\n", {FILE_NAME: DataCard(512, track_table(tracks)).to_json()})
    return folder


@pytest.fixture(scope="session")
def toy_vcf(toy_genome: Genome) -> Path:
    """60 records under the names 1 and 2: substitutions, several alleles, indels, symbols."""
    path = toy_genome.path.with_name("toy.vcf")
    lines = []
    for chrom in ("1", "2"):
        for number in range(30):
            first = 600 + 620 * number
            span = decode(toy_genome.fetch(f"chr{chrom}", first, first + 4))
            others = [base for base in "ACGT" if base != span[0]]
            ref, alts = span[0], others[:1]
            if number % 5 == 1:
                alts = others[:2]
            elif number % 5 == 2:
                ref, alts = span, [span[0]]
            elif number % 5 == 3:
                alts = [span[0] + "GATTACA", others[0], "<DEL>"]
            elif number % 10 == 4:
                alts = ["*", others[1]]
            lines.append(
                f"{chrom}\t{first + 1}\tv{number}\t{ref}\t{','.join(alts)}\t9.5\tPASS\t"
                f"AC={','.join('1' * len(alts))}\tGT\t0/1\n"
            )
    path.write_text(HEADER + "".join(lines))
    return path
