"""Assemblies by the lengths of their chromosomes, and by the names that files give them.

Lengths are those of the UCSC `chrom.sizes` files. Only chromosomes are listed; unplaced contigs
and mitochondria are of no help.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

_HUMAN = (*range(1, 23), "X", "Y")
_MOUSE = (*range(1, 20), "X", "Y")
_RAT = (*range(1, 21), "X")
_WORM = ("I", "II", "III", "IV", "V", "X")
_YEAST = (
    "I", "II", "III", "IV", "V", "VI", "VII", "VIII", "IX", "X", "XI", "XII", "XIII", "XIV", "XV",
    "XVI",
)  # fmt: skip
_FLY = ("2L", "2R", "3L", "3R", "4", "X")


@dataclass(frozen=True)
class Assembly:
    """A version of a genome.

    Attributes:
        name: its usual name, e.g. "hg38".
        label: all names that people know it by, e.g. "GRCh38 (hg38)".
        species: what it is of, in one word.
        sizes: length in bp by chromosome, without "chr".
    """

    name: str
    label: str
    species: str
    sizes: dict[str, int]


def _assembly(
    name: str, label: str, species: str, names: Iterable[object], sizes: tuple[int, ...]
) -> Assembly:
    return Assembly(name, label, species, dict(zip(map(str, names), sizes, strict=True)))


# fmt: off
ASSEMBLIES = (
    _assembly("hg18", "NCBI36 (hg18)", "human", _HUMAN, (
        247249719, 242951149, 199501827, 191273063, 180857866, 170899992, 158821424, 146274826,
        140273252, 135374737, 134452384, 132349534, 114142980, 106368585, 100338915, 88827254,
        78774742, 76117153, 63811651, 62435964, 46944323, 49691432, 154913754, 57772954)),
    _assembly("hg19", "GRCh37 (hg19)", "human", _HUMAN, (
        249250621, 243199373, 198022430, 191154276, 180915260, 171115067, 159138663, 146364022,
        141213431, 135534747, 135006516, 133851895, 115169878, 107349540, 102531392, 90354753,
        81195210, 78077248, 59128983, 63025520, 48129895, 51304566, 155270560, 59373566)),
    _assembly("hg38", "GRCh38 (hg38)", "human", _HUMAN, (
        248956422, 242193529, 198295559, 190214555, 181538259, 170805979, 159345973, 145138636,
        138394717, 133797422, 135086622, 133275309, 114364328, 107043718, 101991189, 90338345,
        83257441, 80373285, 58617616, 64444167, 46709983, 50818468, 156040895, 57227415)),
    _assembly("hs1", "T2T-CHM13v2.0 (hs1)", "human", _HUMAN, (
        248387328, 242696752, 201105948, 193574945, 182045439, 172126628, 160567428, 146259331,
        150617247, 134758134, 135127769, 133324548, 113566686, 101161492, 99753195, 96330374,
        84276897, 80542538, 61707364, 66210255, 45090682, 51324926, 154259566, 62460029)),
    _assembly("mm9", "NCBI37 (mm9)", "mouse", _MOUSE, (
        197195432, 181748087, 159599783, 155630120, 152537259, 149517037, 152524553, 131738871,
        124076172, 129993255, 121843856, 121257530, 120284312, 125194864, 103494974, 98319150,
        95272651, 90772031, 61342430, 166650296, 15902555)),
    _assembly("mm10", "GRCm38 (mm10)", "mouse", _MOUSE, (
        195471971, 182113224, 160039680, 156508116, 151834684, 149736546, 145441459, 129401213,
        124595110, 130694993, 122082543, 120129022, 120421639, 124902244, 104043685, 98207768,
        94987271, 90702639, 61431566, 171031299, 91744698)),
    _assembly("mm39", "GRCm39 (mm39)", "mouse", _MOUSE, (
        195154279, 181755017, 159745316, 156860686, 151758149, 149588044, 144995196, 130127694,
        124359700, 130530862, 121973369, 120092757, 120883175, 125139656, 104073951, 98008968,
        95294699, 90720763, 61420004, 169476592, 91455967)),
    _assembly("rn6", "Rnor_6.0 (rn6)", "rat", _RAT, (
        282763074, 266435125, 177699992, 184226339, 173707219, 147991367, 145729302, 133307652,
        122095297, 112626471, 90463843, 52716770, 114033958, 115493446, 111246239, 90668790,
        90843779, 88201929, 62275575, 56205956, 159970021)),
    _assembly("rn7", "mRatBN7.2 (rn7)", "rat", _RAT, (
        260522016, 249053267, 169034231, 182687754, 166875058, 140994061, 135012528, 123900184,
        114175309, 107211142, 86241447, 46669029, 106807694, 104886043, 101769107, 84729064,
        86533673, 83828827, 57337602, 54435887, 152453651)),
    _assembly("danRer10", "GRCz10 (danRer10)", "zebrafish", range(1, 26), (
        58871917, 59543403, 62385949, 76625712, 71715914, 60272633, 74082188, 54191831, 56892771,
        45574255, 45107271, 49229541, 51780250, 51944548, 47771147, 55381981, 53345113, 51008593,
        48790377, 55370968, 45895719, 39226288, 46272358, 42251103, 36898761)),
    _assembly("danRer11", "GRCz11 (danRer11)", "zebrafish", range(1, 26), (
        59578282, 59640629, 62628489, 78093715, 72500376, 60270059, 74282399, 54304671, 56459846,
        45420867, 45484837, 49182954, 52186027, 52660232, 48040578, 55266484, 53461100, 51023478,
        48449771, 55201332, 45934066, 39133080, 46223584, 42172926, 37502051)),
    _assembly("dm3", "BDGP5 (dm3)", "fly", _FLY, (
        23011544, 21146708, 24543557, 27905053, 1351857, 22422827)),
    _assembly("dm6", "BDGP6 (dm6)", "fly", _FLY, (
        23513712, 25286936, 28110227, 32079331, 1348131, 23542271)),
    _assembly("ce10", "WBcel215 (ce10)", "worm", _WORM, (
        15072423, 15279345, 13783700, 17493793, 20924149, 17718866)),
    _assembly("ce11", "WBcel235 (ce11)", "worm", _WORM, (
        15072434, 15279421, 13783801, 17493829, 20924180, 17718942)),
    _assembly("sacCer2", "sacCer2", "baker's yeast", _YEAST, (
        230208, 813178, 316617, 1531919, 576869, 270148, 1090947, 562643, 439885, 745742, 666454,
        1078175, 924429, 784333, 1091289, 948062)),
    _assembly("sacCer3", "R64-1-1 (sacCer3)", "baker's yeast", _YEAST, (
        230218, 813184, 316620, 1531933, 576874, 270161, 1090940, 562643, 439888, 745751, 666816,
        1078177, 924431, 784333, 1091291, 948066)),
    _assembly("ASM294v2", "ASM294v2", "fission yeast", ("I", "II", "III"), (
        5579133, 4539804, 2452883)),
    _assembly("TAIR10", "TAIR10", "thale cress", range(1, 6), (
        30427671, 19698289, 23459830, 18585056, 26975502)),
)
# fmt: on
_WORDS = {
    "hg18": r"hg18|ncbi36|b36",
    "hg19": r"hg19|grch37|hs37d?5?|b37|human_g1k_v37",
    "hg38": r"hg38|grch38|hs38(?:dh)?|b38",
    "hs1": r"t2t|chm13(?:v2(?:\.0)?)?|hs1",
    "mm9": r"mm9|ncbim37",
    "mm10": r"mm10|grcm38",
    "mm39": r"mm39|grcm39",
    "rn6": r"rn6|rnor_6\.0",
    "rn7": r"rn7|mratbn7\.2",
    "danRer10": r"danrer10|grcz10",
    "danRer11": r"danrer11|grcz11",
    "dm3": r"dm3|bdgp5",
    "dm6": r"dm6|bdgp6",
    "ce10": r"ce10|wbcel215",
    "ce11": r"ce11|wbcel235",
    "sacCer2": r"saccer2",
    "sacCer3": r"saccer3|r64-1-1",
    "ASM294v2": r"asm294v2",
    "TAIR10": r"tair10",
}


def bare_name(chromosome: str) -> str:
    """The name without "chr", as `Assembly.sizes` has it."""
    return re.sub("^(chromosome|chr)_?", "", chromosome, flags=re.IGNORECASE)


def identify(sizes: Mapping[str, int]) -> Assembly | None:
    """The assembly of which chromosomes have these names and lengths in bp; None if in doubt.

    Chromosomes that an assembly does not list count neither way; one that has another length
    rules it out.
    """
    bare = {bare_name(name): size for name, size in sizes.items()}
    fitting = []
    for assembly in ASSEMBLIES:
        shared = bare.keys() & assembly.sizes.keys()
        if shared and all(bare[name] == assembly.sizes[name] for name in shared):
            fitting.append(assembly)
    return fitting[0] if len(fitting) == 1 else None


def named_in(text: str) -> Assembly | None:
    """The one assembly that a text such as a file's name speaks of; None if none or several."""
    found = [
        assembly
        for assembly in ASSEMBLIES
        if re.search(rf"(?<![a-z0-9])(?:{_WORDS[assembly.name]})(?![a-z0-9])", text.lower())
    ]
    return found[0] if len(found) == 1 else None


def that_reach(last: Mapping[str, int], species: str) -> list[Assembly]:
    """Assemblies of a species in which positions up to `last` (1-based, by chromosome) exist."""
    bare = {bare_name(name): position for name, position in last.items()}
    return [
        assembly
        for assembly in ASSEMBLIES
        if assembly.species == species
        and all(position <= assembly.sizes.get(name, 0) for name, position in bare.items())
    ]
