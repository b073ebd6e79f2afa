"""Check what a demo run left behind: report, verdicts, tracks, run folder, manifest."""

import json
import sys
from html.parser import HTMLParser
from pathlib import Path

import polars as pl

from cislens.models.saving import load_model
from cislens.recipes.reading import read_recipe
from cislens.recipes.schema import BenchRecipe
from cislens.signal.bigwig import summarize


class Links(HTMLParser):
    """Collects what a page would load."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        for key in ("src", "href", "xlink:href"):
            value = named.get(key) or ""
            if value and not value.startswith(("#", "data:")):
                self.loaded.append(value)


def main(folder: Path) -> None:
    bench = read_recipe(folder / "bench" / "recipe.yaml", BenchRecipe)
    verdicts = pl.read_parquet(folder / "bench" / "verdicts.parquet")
    expect(set(verdicts["task"]) == set(bench.tasks), "every task has a verdict")
    expect(set(verdicts["comparison"]) == {"onehot", "composition", "random"}, "all comparisons")
    inside = (verdicts["diff_low"] <= verdicts["difference"]) & (
        verdicts["difference"] <= verdicts["diff_high"]
    )
    expect(bool(inside.all()), "differences lie in their intervals")
    tracks = sorted((folder / "tracks").glob("*/*.bw"))
    expect(len(tracks) == 6, "six predicted tracks")
    expect(all(summarize(path).total > 0 for path in tracks), "tracks hold signal")
    manifest = json.loads((folder / "run" / "manifest.json").read_text())
    share = manifest["ledger"]["loader_wait_share"]
    expect(share < 0.02, f"training waits for the loader {share:.3%} of its time")
    load_model(folder / "run" / "model")
    page = (folder / "report.html").read_text()
    links = Links()
    links.feed(page)
    expect(not links.loaded, f"the report loads nothing: {links.loaded[:3]}")
    for task in bench.tasks:
        expect(task in page, f"the report shows {task}")
    sys.stdout.write(f"demo checked: {len(bench.tasks)} tasks, {len(tracks)} tracks\n")


def expect(truth: bool, what: str) -> None:
    if not truth:
        raise SystemExit(f"demo check failed: {what}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
