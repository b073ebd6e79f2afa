"""The quantities of a Genomic Benchmarks folder: against the published sets where a clone of
them is at hand, and against plain loops on the packaged subset."""

import gzip
import os
import re
from collections import Counter
from pathlib import Path

import polars as pl
import pytest

from cislens.evaluation.audit.assemble import open_table
from cislens.evaluation.audit.run import audit

# ML-Bioinfo-CEITEC/genomic_benchmarks at commit 605d853, computed from its intervals.
PUBLISHED = {
    "human_enhancers_ensembl": {
        "rows": (123_872, 30_970),
        "train": {"negative": 61_936, "positive": 61_936},
        "unique": {"negative": 61_936, "positive": 38_595},
        "identical": {"negative": 0.0, "positive": 11_694 / 15_485},
        "overlapping": 0.3851, "look-up": 0.8751, "majority": 0.5,
        "exact lengths": 0.5, "octaves": 0.5, "chromosomes": (24, 24),
    },
    "human_ensembl_regulatory": {
        "rows": (231_348, 57_713),
        "train": {"enhancer": 85_512, "promoter": 75_934, "ocr": 69_902},
        "unique": {"enhancer": 85_512, "promoter": 75_934, "ocr": 69_902},
        "identical": {"enhancer": 0.0, "promoter": 0.0, "ocr": 0.0},
        "overlapping": 0.0, "look-up": 0.3704, "majority": 0.3704,
        "exact lengths": 0.9152, "octaves": 0.8092, "chromosomes": (23, 23),
    },
}  # fmt: skip


def quantities(folder):
    """What an audit of a folder reports, under the names of PUBLISHED."""
    report = audit(open_table(folder))
    classes = report.classes
    identical, overlap, look_up, length, chromosomes = (
        report.check(name)
        for name in (
            "identical intervals", "interval overlap", "coordinate look-up", "length only",
            "chromosome sharing",
        )
    )  # fmt: skip
    return {
        "rows": (report.counts["train"]["rows"], report.counts["test"]["rows"]),
        "train": {name: report.counts["train"][name] for name in classes},
        "unique": {n: identical.detail[f"unique train intervals of {n}"] for n in classes},
        "identical": dict(identical.classes),
        "overlapping": overlap.value, "look-up": look_up.value, "majority": look_up.reference,
        "exact lengths": length.detail["table of exact lengths"],
        "octaves": length.detail["table of 1/8 octaves"],
        "chromosomes": (chromosomes.detail["shared"], chromosomes.detail["of"]),
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_the_published_sets_give_the_published_values(name):
    folder = os.environ.get("CISLENS_GENOMIC_BENCHMARKS")
    if folder is None:
        pytest.skip("CISLENS_GENOMIC_BENCHMARKS does not name the datasets folder of a clone")
    found, expected = quantities(Path(folder) / name), PUBLISHED[name]
    for key, value in expected.items():
        tolerance = 1e-4 if isinstance(value, float) or key == "identical" else 0
        assert found[key] == pytest.approx(value, abs=tolerance), key


@pytest.fixture(scope="module")
def folder(core_data, tmp_path_factory):
    """The packaged subset in the layout of the repository: its hg38 intervals, no sequences."""

    def written(name):
        source = core_data / "genomic_benchmarks_subset" / f"{name}.tsv.gz"
        frame = pl.read_csv(source, separator="\t", columns=["split", "label", "id", "locus"])
        place = r"\(hg38:(?<region>chr\w+):(?<start>\d+)-(?<end>\d+)\)"
        frame = frame.with_columns(
            pl.col("locus").str.extract_groups(place).alias("place"),
            strand=pl.col("locus").str.extract(r":([+.-])\("),
        ).unnest("place")
        out = tmp_path_factory.mktemp("benchmarks") / name
        for (split, label), rows in frame.group_by("split", "label"):
            path = out / str(split) / f"{label}.csv.gz"
            path.parent.mkdir(parents=True, exist_ok=True)
            # Coordinates as the repository has them in some files: as text of a float.
            text = rows.select(
                "id", "region", pl.format("{}.0", "start"), pl.format("{}.0", "end"), "strand"
            ).write_csv()
            header = "id,region,start,end,strand\n"
            path.write_bytes(gzip.compress((header + text.split("\n", 1)[1]).encode()))
        return out

    return written


def plainly(folder):
    """The same quantities by loops over rows and pairs of rows."""
    rows = []
    for split in ("train", "test"):
        for path in sorted((folder / split).iterdir()):
            label = path.name.removesuffix(".csv.gz")
            for line in gzip.decompress(path.read_bytes()).decode().splitlines()[1:]:
                _id, chrom, start, end, _strand = line.split(",")
                rows.append((split, label, chrom, int(float(start)), int(float(end))))
    train = [row[1:] for row in rows if row[0] == "train"]
    test = [row[1:] for row in rows if row[0] == "test"]
    classes = sorted({row[0] for row in train})

    def commonest(labels):
        counts = Counter(labels)
        return max(classes, key=lambda name: counts[name])

    def shared(a, b):
        return min(a[3], b[3]) - max(a[2], b[2]) if a[1] == b[1] else 0

    lonely = [a for i, a in enumerate(train)
              if not any(shared(a, b) > 0 for j, b in enumerate(train) if i != j)]  # fmt: skip
    fallback = commonest(row[0] for row in lonely)
    majority = commonest(row[0] for row in test)
    places = {row[1:] for row in train}
    right = overlapping = 0
    for row in test:
        best = max(range(len(train)), key=lambda i: (shared(row, train[i]), -i))
        overlapping += shared(row, train[best]) > 0
        right += row[0] == (train[best][0] if shared(row, train[best]) > 0 else fallback)

    def by_table(key):
        table = {}
        for row in train:
            table.setdefault(key(row), []).append(row[0])
        prior = Counter(row[0] for row in train)

        def said(row):
            counts = Counter(table.get(key(row), []))
            return max(classes, key=lambda name: (counts[name], prior[name]))

        return sum(said(row) == row[0] for row in test) / len(test)

    def octave(row):
        from math import log2

        length = row[3] - row[2]
        return ("exact", length) if length < 60 else round(8 * log2(length))

    known, judged = {row[1] for row in train}, {row[1] for row in test}
    return {
        "rows": (len(train), len(test)),
        "train": dict(Counter(row[0] for row in train)),
        "unique": {name: len({r[1:] for r in train if r[0] == name}) for name in classes},
        "identical": {
            name: sum(r[1:] in places for r in test if r[0] == name)
            / sum(r[0] == name for r in test)
            for name in classes
        },
        "overlapping": overlapping / len(test), "look-up": right / len(test),
        "majority": sum(row[0] == majority for row in test) / len(test),
        "exact lengths": by_table(lambda row: row[3] - row[2]), "octaves": by_table(octave),
        "chromosomes": (len(known & judged), len(judged)),
    }  # fmt: skip


@pytest.fixture(scope="module")
def small(folder):
    """A part of a set, so that loops over all pairs stay short."""

    def made(name):
        out = folder(name)
        for path in out.rglob("*.csv.gz"):
            lines = gzip.decompress(path.read_bytes()).decode().splitlines()
            kept = [lines[0], *sorted(lines[1:], key=lambda line: line.split(",")[1:3])[:250]]
            path.write_bytes(gzip.compress("\n".join(kept).encode()))
        return out

    return made


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_subset_gives_what_plain_loops_give(name, small):
    out = small(name)
    found, expected = quantities(out), plainly(out)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, abs=1e-12), key


def test_the_enhancers_of_the_subset_are_copied_from_train_to_test(folder):
    report = audit(open_table(folder("human_enhancers_ensembl")))
    identical = report.check("identical intervals")
    assert identical.classes["negative"] == 0
    assert identical.classes["positive"] == pytest.approx(11_694 / 15_485, abs=0.05)
    look_up = report.check("coordinate look-up")
    assert look_up.value == pytest.approx(0.8751, abs=0.02)
    assert report.check("interval overlap").verdict == look_up.verdict == "fail"
    assert report.exit_code == 2


def test_length_tells_the_regulatory_classes_of_the_subset(folder):
    report = audit(open_table(folder("human_ensembl_regulatory")))
    length = report.check("length only")
    assert length.detail["best predictor"] == "table of exact lengths"
    assert length.value == pytest.approx(0.9152, abs=0.02)
    assert length.detail["table of 1/8 octaves"] == pytest.approx(0.8092, abs=0.03)
    assert length.verdict == "fail"
    assert report.check("identical intervals").value == 0


def test_classes_of_a_folder_are_named_with_their_numbers(folder):
    table = open_table(folder("human_ensembl_regulatory"))
    said = [note for note in table.notes if re.search("enhancer, ocr, promoter", note)]
    assert len(said) == 1
    assert table.classes == ("enhancer", "ocr", "promoter")
