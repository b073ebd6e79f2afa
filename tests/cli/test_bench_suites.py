"""Which tasks of a suite a bench takes."""

from collections import Counter
from pathlib import Path

import pytest

from cislens.cli.bench_job import bench_recipe as _recipe
from cislens.errors import CislensError
from cislens.example import core_data
from cislens.recipes.task_recipe import read_tasks

SUITE = """
tasks:
  binding.reb1: {kind: saved, folder: reb1}
  binding.ctcf: {kind: saved, folder: ctcf}
  promoters.yeast: {kind: saved, folder: promoters}
"""


def bench(folder: Path, text: str) -> str:
    (folder / "suite.yaml").write_text(SUITE)
    (folder / "bench.yaml").write_text(f"suites: [suite.yaml]\n{text}")
    return str(folder / "bench.yaml")


def test_only_takes_what_matches_in_the_order_of_the_suite(tmp_path: Path) -> None:
    recipe = _recipe(bench(tmp_path, 'only: ["promoters.*", "*.ctcf"]'), tmp_path, [], False)
    assert list(recipe.tasks) == ["binding.ctcf", "promoters.yeast"]
    assert list(_recipe(bench(tmp_path, ""), tmp_path, [], False).tasks) == [
        "binding.reb1", "binding.ctcf", "promoters.yeast",
    ]  # fmt: skip


def test_only_that_matches_nothing_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(CislensError, match=r"named like 'binding.reb2'.*'binding.reb1'"):
        _recipe(bench(tmp_path, "only: [binding.reb2]"), tmp_path, [], False)


@pytest.mark.skipif(core_data() is None, reason="no data folder (CISLENS_DATA)")
def test_downstream_protocol_fine_tunes_on_the_published_kinds_of_tasks() -> None:
    recipe = _recipe("downstream", Path("out"), [], False)
    assert {name.split(".")[0] for name in recipe.tasks} == {
        "histone", "promoters", "tfbs", "splice", "enhancers", "gb",
    }  # fmt: skip
    assert len(recipe.tasks) == 15
    assert recipe.settings.finetune == ["full"]
    assert recipe.settings.heads == ["linear"]
    assert recipe.settings.seeds >= 3


@pytest.mark.skipif(core_data() is None, reason="no data folder (CISLENS_DATA)")
def test_twenty_tasks_judge_self_distillation_and_those_of_core_are_the_same() -> None:
    recipe = _recipe("selfdistillation", Path("out"), [], False)
    kinds = Counter(section.kind for section in recipe.tasks.values())
    assert kinds == {"genomic_benchmarks": 5, "gue": 14, "table": 1}
    core = read_tasks("core").tasks
    shared = recipe.tasks.keys() & core.keys()
    assert len(shared) == 15
    assert all(recipe.tasks[name] == core[name] for name in shared)
    # The others name the digest of each of their files, as those of core do.
    for name in recipe.tasks.keys() - shared:
        section = recipe.tasks[name]
        folder = getattr(section, "folder", None)
        files = list(Path(folder).glob("*.csv.gz")) if folder else [Path(section.table)]
        assert section.sha256.keys() == {path.name for path in files}, name
    settings = recipe.settings
    assert (settings.heads, settings.finetune) == (["linear", "neighbors"], ["full"])
    assert settings.labels and settings.seeds >= 3


@pytest.mark.skipif(core_data() is None, reason="no data folder (CISLENS_DATA)")
def test_variants_are_tested_on_most_elements_in_either_sign() -> None:
    recipe = _recipe("variants", Path("out"), [], False)
    assert set(recipe.tasks) == {
        "satmut.signed", "satmut.unsigned", "variants.ncvardb", "risk.pathogenic",
    }  # fmt: skip
    signed, unsigned = recipe.tasks["satmut.signed"], recipe.tasks["satmut.unsigned"]
    assert unsigned == signed.model_copy(update={"signed": False})
    assert len(signed.test) == 9 and signed.revision == "zero-shot"
    for suite, name in (("core", "variants.ncvardb"), ("regulatory", "risk.pathogenic")):
        known = read_tasks(suite).tasks[name]
        assert recipe.tasks[name].model_copy(update={"sha256": {}}) == known.model_copy(
            update={"sha256": {}}
        )
    of_core = read_tasks("core").tasks["satmut.signed"]
    elements = [each for part in (signed.train, signed.valid, signed.test) for each in part]
    assert sorted(elements) == sorted([*of_core.train, *of_core.valid, *of_core.test])
