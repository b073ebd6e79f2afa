import pytest

from cislens.genome.assemblies import ASSEMBLIES, bare_name, identify, named_in, that_reach

BY_NAME = {assembly.name: assembly for assembly in ASSEMBLIES}


@pytest.mark.parametrize("assembly", ASSEMBLIES, ids=lambda assembly: assembly.name)
def test_every_assembly_is_known_by_all_or_by_two_of_its_chromosomes(assembly):
    sizes = {f"chr{name}": size for name, size in assembly.sizes.items()}
    assert identify(sizes) is assembly
    assert identify(dict(list(sizes.items())[:2])) is assembly
    assert named_in(f"calls.{assembly.name}.vcf.gz") is assembly
    assert assembly in that_reach(assembly.sizes, assembly.species)


def test_no_chromosome_is_shorter_than_a_tenth_of_a_megabase_or_longer_than_300():
    sizes = [size for assembly in ASSEMBLIES for size in assembly.sizes.values()]
    assert min(sizes) > 100_000 and max(sizes) < 300_000_000


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("human_hg19_chr20_21", "hg19"), ("scerevisiae_sacCer3", "sacCer3"),
        ("spombe_ASM294v2", "ASM294v2"), ("celegans_ce11_chrI", "ce11"),
    ],
)  # fmt: skip
def test_genomes_in_the_data_folder_are_recognized(core_data, folder, name):
    lines = (core_data / folder / "chrom.sizes").read_text().splitlines()
    sizes = {line.split()[0]: int(line.split()[1]) for line in lines}
    assert identify(sizes) is BY_NAME[name]


def test_lengths_that_differ_or_that_several_have_are_left_unnamed():
    assert identify({"chr20": 63025521}) is None
    assert identify({"chr20": 63025520, "chr21": 1}) is None
    assert identify({"chrVIII": 562643}) is None  # sacCer2 and sacCer3 have it
    assert identify({"chrM": 16569, "scaffold_1": 63025520}) is None
    assert identify({"20": 63025520, "GL000191.1": 106433}) is BY_NAME["hg19"]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("file:///data/human_g1k_v37.fasta", "hg19"),
        ("file:///ref/Homo_sapiens.GRCh38.dna.fa", "hg38"),
        ("clinvar_GRCH37.vcf", "hg19"),
        ("chm13v2.0.fa", "hs1"),
        ("hg19_to_hg38.vcf", None),
        ("hg381.vcf", None),
        ("None None", None),
    ],
)
def test_texts_name_an_assembly_or_none(text, name):
    assert named_in(text) is (BY_NAME[name] if name else None)


def test_positions_tell_which_assemblies_have_them():
    names = [assembly.name for assembly in that_reach({"chr20": 63_100_000}, "human")]
    assert names == ["hg38", "hs1"]  # 63,025,520 bp in hg19, 62,435,964 in hg18
    assert that_reach({"chr20": 70_000_000}, "human") == []
    assert [bare_name(name) for name in ("chr2L", "Chromosome_II", "X")] == ["2L", "II", "X"]
