"""The blocks of code in README and docs, and what becomes of each kind.

| block | what becomes of it |
|---|---|
| `bash` | every line is run, beside a finished demo (`.ci/run_docs.py`) |
| `python` | run there too; one that begins with `# name.py` is a file that a command runs |
| `yaml` | read by the schema of recipes; one that begins with `# name.yaml` is a file as well |
| `sh` | not run: it needs data, machines or a network; its verbs and options must exist |
| `py` | not run: it needs a model or a library that is not there; its imports must exist |
| `json` | read as JSON |
| `text` | nothing is promised |
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
KINDS = ("bash", "python", "yaml", "sh", "py", "json", "text")
# What a line of a bash block may begin with.
RUN = ("cislens ", "cp ", "printf ", "python ")
# The verbs first: other pages read what they leave.
_FIRST = [ROOT / "README.md", ROOT / "docs/verbs.md"]
_NAMED = re.compile(r"# (\S+\.(?:yaml|py))\n")


@dataclass(frozen=True)
class Block:
    """A fenced block: the page and line it begins at, its kind and its text."""

    page: Path
    line: int
    kind: str
    text: str

    @property
    def where(self) -> str:
        return f"{self.page.relative_to(ROOT)} line {self.line}"

    @property
    def name(self) -> str | None:
        """Of the file that it is."""
        found = _NAMED.match(self.text)
        return found[1] if found else None

    def commands(self) -> list[str]:
        """Lines joined at backslashes, without comments."""
        lines = self.text.replace("\\\n", " ").splitlines()
        bare = (" ".join(line.split(" #")[0].split()) for line in lines)
        return [line for line in bare if line and not line.startswith("#")]


def pages() -> list[Path]:
    """README, then the verbs, then all other pages by name."""
    return [
        *_FIRST,
        *(path for path in sorted((ROOT / "docs").rglob("*.md")) if path not in _FIRST),
    ]


def blocks() -> Iterator[Block]:
    """Every fenced block of every page, in order."""
    for page in pages():
        begin, kind, held = 0, "", []
        for number, line in enumerate(page.read_text().splitlines(), 1):
            if not line.lstrip().startswith("```"):
                held.append(line)
            elif begin:
                yield Block(page, begin, kind, "\n".join([*held, ""]))
                begin = 0
            else:
                begin, kind, held = number, line.strip("` "), []
        if begin:
            raise ValueError(f"{page} line {begin}: the block never ends.")
