"""Training on several objectives at once, around one encoder."""

import logging
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from torch import nn

from cislens.errors import CislensError
from cislens.models.contract import Encoder
from cislens.models.mixture import MixtureModel
from cislens.models.saving import save_model
from cislens.objectives.mixture import MixtureBatch, MixtureObjective
from cislens.recipes.multimodal import MultimodalTerms
from cislens.recipes.objectives import MixturePart, MixtureTerms
from cislens.recipes.schema import TrainRecipe
from cislens.training.card import model_card
from cislens.training.collapse import CollapseGuard
from cislens.training.course import Course
from cislens.training.courses import course_of
from cislens.training.part_course import PartCourse
from cislens.training.store_parts import contradictions
from cislens.training.stream import EpochLoader, Place

logger = logging.getLogger("cislens")

_FIRST = "profile"


class MixtureCourse(Course):
    """One course per objective of a mixture; their models share the first one's encoder.

    A part of weight 0 is left out. The encoder is that of the profile part, which decides the
    species that it tells apart, or else of the first part; its weights at the start are those that
    it would have alone. Everything that a part reports is named `<part>.<name>`.

    Raises:
        CislensError: as the parts' courses, or for an ancestor.
    """

    def __init__(self, recipe: TrainRecipe) -> None:
        assert isinstance(recipe.objective, MixtureTerms)
        if recipe.init_from is not None:
            raise CislensError(
                "init_from: a mixture starts from fresh weights; give a model. What it trains can "
                "be trained further by each of its objectives alone."
            )
        self.recipe = recipe
        weighted: dict[str, MixturePart] = {
            part.objective.name: part for part in recipe.objective.parts if part.weight
        }
        self.parts = _courses(recipe, weighted)
        names = list(self.parts)
        model = MixtureModel.of({name: course.model for name, course in self.parts.items()})
        self.objective: MixtureObjective = MixtureObjective(
            model,
            {name: course.objective for name, course in self.parts.items()},
            {name: weighted[name].weight for name in names},
        )
        self.loader = _Loaders({name: course.loader for name, course in self.parts.items()})
        first = self.parts[names[0]]
        self.selection = first.selection and f"{names[0]}.{first.selection}"
        self.headline = tuple(
            f"{name}.{shown}"
            for name, course in self.parts.items()
            for shown in dict.fromkeys((course.selection, *course.headline))
            if shown and f"{name}.{shown}" != self.selection
        )
        self.finite = tuple(_all(self.parts, lambda course: course.finite))
        self.origin = {
            f"{name} {what}": value
            for name, course in self.parts.items()
            for what, value in course.origin.items()
        }
        compiled = [part for course in self.parts.values() for part in course.compiled]
        self.compiled = tuple({id(part): part for part in compiled}.values())
        self.watches = tuple(
            PartWatch(name, watch)
            for name, course in self.parts.items()
            for watch in course.watches
        )
        self.bases = sum(course.bases for course in self.parts.values())
        self.windows = sum(course.windows for course in self.parts.values())
        _warn_of_contradictions(self.parts)

    def stream(self, position: Callable[[], int], rank: int = 0, world: int = 1) -> "_Streams":
        for name, course in self.parts.items():
            if course.recipe.training.batch_size < world:
                raise CislensError(
                    f"batch_size {course.recipe.training.batch_size} of the part {name} is less "
                    f"than the {world} devices that share a batch; raise it."
                )
        return _Streams({n: part.stream(position, rank, world) for n, part in self.parts.items()})

    def passes(self, rank: int = 0, world: int = 1) -> "_Passes":
        return _Passes({name: part.passes(rank, world) for name, part in self.parts.items()})

    def blocks(self) -> Iterator[tuple[Place, Any]]:
        for name, part in self.parts.items():
            for (species, block), batch in part.blocks():
                yield (f"{name}.{species}", block), MixtureBatch({name: batch})

    def guards(self, *given: Any) -> list[Any]:
        found = {
            name: guard for name, course in self.parts.items() for guard in course.guards(*given)
        }
        return [CollapseGuard.of_parts(found)] if found else []

    def save(self, folder: Path, model: nn.Module, manifest: dict[str, Any]) -> None:
        assert isinstance(model, MixtureModel)
        beside: dict[str, str] = {}
        about = [f"One encoder, trained for {len(self.parts)} objectives at once."]
        data = []
        for name, course in self.parts.items():
            beside |= course.leave(folder, model.parts[name])
            text = course.about(model.parts[name]).replace("### ", "#### ")
            about.append(f"### {name}, weight {self.objective.weights[name]:g}\n{text}")
            data.append(f"### {name}\n{course.provenance()}")
        texts = ("\n\n".join(about), "\n\n".join(data))
        card = model_card(self.recipe, manifest, "mixture", *texts)
        save_model(model, folder / "model", card, beside)

    def facts(self) -> dict[str, Any]:
        parts = {
            name: {
                "weight": self.objective.weights[name],
                "batch_size": course.recipe.training.batch_size,
                "selection": course.selection,
                **course.facts(),
            }
            for name, course in self.parts.items()
        }
        stores = {part["store"]["digest"]: part["store"] for part in parts.values()}
        return {
            "store": next(iter(stores.values())),
            "stores": list(stores.values()),
            "parts": parts,
        }

    def preview(self) -> dict[str, Any]:
        return {"parts": {name: course.preview() for name, course in self.parts.items()}}

    def places(self, batch: Mapping[str, Any]) -> list[str]:
        return [place for n, part in batch.items() for place in self.parts[n].places(part)]

    def say(self) -> None:
        for course in self.parts.values():
            course.say()


class PartWatch(Callback):
    """A watch of a part of a mixture: it sees the part's batches, and says whose its metrics are.

    Args:
        part: name of the part.
        watch: as the part's course has it.
    """

    def __init__(self, part: str, watch: Any) -> None:
        self.part = part
        self.watch = watch

    @property
    def state_key(self) -> str:
        return f"{type(self).__qualname__}.{self.part}.{self.watch.state_key}"

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.watch.on_fit_start(trainer, pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.watch.on_fit_end(trainer, pl_module)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, *rest: Any
    ) -> None:
        self.watch.on_train_batch_end(trainer, pl_module, outputs, batch.parts[self.part], *rest)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.watch.on_validation_epoch_start(trainer, pl_module)

    def metrics(self) -> dict[str, float]:
        """Those of the watch, `<part>.<name>`."""
        return {f"{self.part}.{name}": value for name, value in self.watch.metrics().items()}

    def state_dict(self) -> dict[str, Any]:
        state: dict[str, Any] = self.watch.state_dict()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.watch.load_state_dict(state_dict)


class _Loaders:
    """The loaders of all parts; an epoch is one of the first part."""

    def __init__(self, parts: Mapping[str, EpochLoader]) -> None:
        self.parts = parts

    @property
    def wait_seconds(self) -> float:
        return sum(loader.wait_seconds for loader in self.parts.values())

    def __len__(self) -> int:
        return len(next(iter(self.parts.values())))

    def batch(self, epoch: int, step: int) -> dict[str, Any]:
        """What the parts read at a step; each is in an epoch of its own."""
        done = epoch * len(self) + step
        return {
            name: loader.batch(*divmod(done, len(loader))) for name, loader in self.parts.items()
        }

    def epoch(self, epoch: int, first: int = 0, every: int = 1) -> Iterator[dict[str, Any]]:
        return (self.batch(epoch, step) for step in range(first, len(self), every))


class _Streams:
    """A batch of every part at every step; epochs of different lengths go on by themselves."""

    def __init__(self, parts: Mapping[str, Any]) -> None:
        self.parts = parts

    def __iter__(self) -> Iterator[MixtureBatch]:
        for batches in zip(*self.parts.values(), strict=True):
            yield MixtureBatch(dict(zip(self.parts, batches, strict=True)))


class _Passes:
    """One pass over the validation part of each store, one after another."""

    def __init__(self, parts: Mapping[str, Any]) -> None:
        self.parts = parts

    def __iter__(self) -> Iterator[MixtureBatch]:
        for name, batches in self.parts.items():
            for batch in batches:
                yield MixtureBatch({name: batch})


def _courses(recipe: TrainRecipe, parts: Mapping[str, MixturePart]) -> dict[str, PartCourse]:
    """The parts' courses in the order of the recipe; the one that gives the encoder made first."""
    found: dict[str, PartCourse] = {}
    encoder: Encoder | None = None
    for name in sorted(parts, key=lambda name: name != _FIRST):
        course = course_of(part_recipe(recipe, parts[name]), encoder)
        assert isinstance(course, PartCourse)
        encoder = course.model.encoder if encoder is None else encoder
        found[name] = course
    return {name: found[name] for name in parts}


def part_recipe(recipe: TrainRecipe, part: MixturePart) -> TrainRecipe:
    """What a part of a mixture would be as a recipe of its own, on the mixture's encoder."""
    given = recipe.model
    encoder: dict[str, Any] = {"preset": given} if isinstance(given, str) else dict(given or {})
    if isinstance(part.objective, MultimodalTerms):
        changes = {key: value for key, value in encoder.items() if key != "preset"}
        encoder = {key: value for key, value in encoder.items() if key == "preset"}
        encoder |= {"encoder": changes} if changes else {}
    sizes = {} if part.batch_size is None else {"batch_size": part.batch_size}
    changed = {
        "store": recipe.store if part.store is None else part.store,
        "objective": part.objective,
        "model": {**encoder, **part.model},
        "training": recipe.training.model_copy(update=sizes),
    }
    return recipe.model_copy(update=changed)


def _warn_of_contradictions(parts: Mapping[str, PartCourse]) -> None:
    """Warn where one part is trained on what another is judged by."""
    for one, other, bp in contradictions({name: part.store for name, part in parts.items()}):
        logger.warning(
            "training: %s bp are in the training part of the store of %s and in the validation or "
            "test part of that of %s, or the other way round: the encoder is trained on bases that "
            "one of them holds out. Build one store with the parts of the other (--parts-of).",
            f"{bp:,}", one, other,
        )  # fmt: skip


def _all(parts: Mapping[str, Course], names: Callable[[Course], tuple[str, ...]]) -> list[str]:
    return [f"{part}.{name}" for part, course in parts.items() for name in names(course)]
