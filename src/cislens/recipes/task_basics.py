"""What sections of tasks share: how examples are parted, and how text becomes labels."""

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from cislens.recipes.reading import RecipePath, Section

TargetKind = Literal["binary", "multiclass", "multilabel", "regression", "multi_regression"]


class Parting(Section):
    """How the examples of one file come to train, valid and test.

    Attributes:
        by: homology (clusters of alike sequences, dealt anew), chromosome, or the values of a
            column: fold (numbers) or column (anything).
        column: name of the column, for fold and column.
        train, valid, test: the chromosomes or values of each part; without `train` all others
            are train, without `valid` it is carved from train by homology.
    """

    by: Literal["homology", "chromosome", "fold", "column"] = "homology"
    column: str | None = None
    train: list[str] = []
    valid: list[str] = []
    test: list[str] = []

    @field_validator("train", "valid", "test", mode="before")
    @classmethod
    def _as_text(cls, values: Any) -> Any:
        return [str(value) for value in values] if isinstance(values, list) else values

    @model_validator(mode="after")
    def _complete(self) -> "Parting":
        if self.by in ("fold", "column") and self.column is None:
            raise ValueError(f"a split by {self.by} needs the name of its `column`")
        if self.by != "homology" and not self.test:
            raise ValueError(f"a split by {self.by} needs `test`")
        named = [*self.train, *self.valid, *self.test]
        twice = sorted({value for value in named if named.count(value) > 1})
        if twice:
            raise ValueError(f"{twice[0]!r} is named for two parts")
        return self


class TaskSection(Section):
    """What every task says of itself.

    Attributes:
        limit: at most so many examples (positives, of a builder), drawn by the seed.
        sha256: digest of each file by its name, checked before anything is read.
    """

    species: str
    assembly: str = ""
    revision: str = "1"
    limit: int | None = Field(default=None, ge=2)
    stranded: bool = False
    source: str = ""
    licence: str = "unknown"
    exposure: str = "unknown"
    sha256: dict[str, str] = {}


class SequenceSection(TaskSection):
    """A task whose files hold the sequences.

    Attributes:
        window: bp of every example; others are dropped, and longer ones cut to their middle with
            `longer: crop`. By default the sequences are taken as they are.
    """

    window: int | None = Field(default=None, ge=1)
    longer: Literal["drop", "crop"] = "drop"


class Labelling(SequenceSection):
    """How the text in label columns becomes labels.

    Attributes:
        classes: number of every class by its text; two classes make a binary task, more a
            multiclass task.
        target: what the labels are; needed where classes are not given and the labels are whole
            numbers other than 0 and 1.
        missing: what is done with an example without a label: refuse the file, drop the example
            and count it, or mask the output (several outputs only).
    """

    classes: dict[str, int] = {}
    target: TargetKind | None = None
    transform: Literal["identity", "log1p"] = "identity"
    missing: Literal["refuse", "drop", "mask"] = "refuse"

    @field_validator("classes", mode="before")
    @classmethod
    def _text_keys(cls, values: Any) -> Any:
        return {str(key): n for key, n in values.items()} if isinstance(values, dict) else values


class GenomeSection(TaskSection):
    """A task built on a genome. With `split: store`, examples take the part of the window
    or region of the store that they lie in; `anew` parts them by homology; `auto` does the first
    where the store has the species, else the second."""

    genome: RecipePath
    split: Literal["store", "anew", "auto"] = "store"
