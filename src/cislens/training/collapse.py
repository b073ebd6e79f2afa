"""Rules that tell a collapsing run from a healthy one, and the guard that stops the former.

A model collapses when it gives all sequences nearly the same; the losses of self-distillation can
be low then. The rules look at what `objectives.collapse` measures at each validation.
"""

import copy
import json
import logging
import math
import operator
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, NoReturn

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from cislens.errors import CollapseError
from cislens.files import atomic_path, read_json, write_atomic
from cislens.nn.gathering import alone
from cislens.recipes.schema import Training
from cislens.training.module import ObjectiveModule
from cislens.training.monitor import Monitor, merged
from cislens.training.sharding import whole

REPORT = "collapse_report.json"
GOOD = "good.ckpt"
MARKOV = "masked/markov"

logger = logging.getLogger("cislens")


@dataclass(frozen=True)
class Rule:
    """Limits of one metric.

    Attributes:
        metric: its name, without the name of the part of a mixture.
        side: on which side of the limits it is bad.
        warn, stop: the limits; None never warns, or never stops.
        meaning: what it says if it is bad.
        worst: its value in a model that gives all windows the same; where there is one, a model
            that was beyond the limits before it was trained is held against itself.
    """

    metric: str
    side: Literal["below", "above"]
    warn: float | None
    stop: float | None
    meaning: str
    worst: float | None = None

    def beyond(self, value: float, limit: float | None) -> bool:
        """Whether the value is on the bad side of a limit; never if it was not measured."""
        bad = operator.lt if self.side == "below" else operator.gt
        return limit is not None and not math.isnan(value) and bad(value, limit)

    def since(self, untrained: float) -> "Rule":
        """The rule for a model that had this value before it was trained.

        Of many encoders the vectors share a large offset, or follow the composition, from the
        start. Such a run is warned of a quarter of the way from there to the worst, and has
        collapsed halfway.
        """
        if self.worst is None or not math.isfinite(untrained):
            return self
        assert self.warn is not None
        assert self.stop is not None
        nearer = min if self.side == "below" else max
        return replace(
            self,
            warn=nearer(self.warn, (3 * untrained + self.worst) / 4),
            stop=nearer(self.stop, (untrained + self.worst) / 2),
        )


RULES = (
    Rule("rankme_share", "below", 0.2, 0.1, "the vectors of windows use few directions", 0.0),
    Rule(
        "teacher/marginal", "below", 0.6, 0.3,
        "the teacher gives all windows to a few prototypes",
    ),
    Rule(
        "teacher/sharpness", "above", 0.95, 0.98,
        "the teacher gives every window to all prototypes alike",
    ),
    Rule(
        "teacher/information", "below", 0.03, 0.005,
        "the teacher gives all windows the same answer",
    ),
    Rule("feature_std", "below", 0.3, 0.1, "the vectors of all windows point the same way", 0.0),
    Rule(
        "composition_share", "above", 0.5, 0.8,
        "the vectors hold little but the share of GC, CpG and repeats", 1.0,
    ),
    Rule(
        "masked/nats_unique", "above", None, 1.4,
        "hidden bases are told no better than at random (ln 4 = 1.386)",
    ),
)  # fmt: skip


def rule_of(name: str, untrained: Mapping[str, float]) -> Rule | None:
    """The rule of a metric, if it has one.

    What the vectors look like stops a run only where a teacher is followed, which may lead both to
    the same vector for all. An objective that has to tell bases cannot end there: its vectors may
    gain a large offset, and tell windows apart all the same.

    Args:
        name: in a mixture it begins with that of the part and a dot.
        untrained: the metrics before training, with `MARKOV` of the part among them where it is
            known; hidden bases outside of repeats should be told better than that.
    """
    part, dot, metric = name.rpartition(".")
    rule = next((rule for rule in RULES if rule.metric == metric), None)
    if rule is None:
        return None
    if metric == "masked/nats_unique":
        return replace(rule, warn=untrained.get(f"{part}{dot}{MARKOV}"))
    rule = rule.since(untrained.get(name, math.nan))
    taught = f"{part}{dot}agreement" in untrained
    return rule if taught or rule.worst is None else replace(rule, stop=None)


@dataclass(frozen=True)
class _Part:
    """What a guard knows of a part of a mixture, or of the only one."""

    on_collapse: Literal["stop", "warn"]
    markov: float | None


class CollapseGuard(Callback):
    """Judges every validation after the warm-up, and stops a run that has collapsed.

    A rule whose `stop` limit is passed at two validations in a row ends the run with a
    CollapseError and a `collapse_report.json`. At the first of them the last checkpoint, which the
    validation is about to replace, is kept as `checkpoints/good.ckpt`; it is removed again when
    the run recovers. Must stand after the monitor and before the checkpoint among the callbacks.

    The model is also measured before its first step; the monitor has that as validation of step 0.

    Args:
        folder: of the run.
        training: of the recipe; nothing is judged during its warm-up.
        on_collapse: stop the run, or say so in the log and go on.
        markov: nats a base of an order-2 Markov model on the held-out windows outside of repeats.
    """

    def __init__(
        self,
        folder: Path,
        training: Training,
        on_collapse: Literal["stop", "warn"] = "stop",
        markov: float | None = None,
    ) -> None:
        self.folder = folder
        self.warmup = round(training.warmup * training.steps)
        self.parts = {"": _Part(on_collapse, markov)}
        self.before: dict[str, Any] = {}
        self.warned: list[str] = []

    @classmethod
    def of_parts(cls, guards: Mapping[str, "CollapseGuard"]) -> "CollapseGuard":
        """The guard of a mixture: those of its parts, each for the metrics of its own part."""
        first = next(iter(guards.values()))
        joined = copy.copy(first)
        joined.parts = {f"{name}.": guard.parts[""] for name, guard in guards.items()}
        return joined

    def state_dict(self) -> dict[str, Any]:
        return {"before": self.before, "warned": self.warned}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.before = dict(state_dict["before"])
        self.warned = list(state_dict["warned"])

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step:
            return
        assert isinstance(pl_module, ObjectiveModule)
        metrics = pl_module.objective.metrics()
        pl_module.eval()
        context = trainer.precision_plugin.val_step_context()
        with whole(pl_module), alone(), torch.no_grad(), context:
            for batch in trainer.val_dataloaders or ():
                losses = pl_module.objective.loss(batch.to(pl_module.device))
                metrics.update(losses.predictions, getattr(batch, "targets", None))
        pl_module.train()
        (metrics,) = merged(trainer, (metrics,))
        markov = {
            f"{part}{MARKOV}": own.markov
            for part, own in self.parts.items()
            if own.markov is not None
        }
        _monitor(trainer)._add(0, "valid", metrics.summary() | markov)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        step = trainer.global_step
        if trainer.sanity_checking or step < self.warmup:
            return
        untrained, values = ({
            row["metric"]: row["value"]
            for row in _monitor(trainer).rows
            if row["step"] == at and row["split"] == "valid"
        } for at in (0, step))  # fmt: skip
        judged = {
            name: rule for name in values if self._part(name) and (rule := rule_of(name, untrained))
        }
        self._warn(step, values, judged)
        bad = [
            name
            for name, rule in judged.items()
            if rule.beyond(values[name], rule.stop) and self._part(name) == "stop"
        ]
        seen = {"step": step, "bad": bad, "values": {name: values[name] for name in judged}}
        before, self.before = self.before, seen
        if twice := [name for name in bad if name in before.get("bad", ())]:
            self._stop(trainer, before, twice, judged)
        if trainer.is_global_zero:
            self._keep(was_bad=bool(before.get("bad")), is_bad=bool(bad))

    def _part(self, name: str) -> str | None:
        """What is to be done if a metric says that its part collapses; None for no part's."""
        part, dot, _ = name.rpartition(".")
        own = self.parts.get(f"{part}{dot}")
        return None if own is None else own.on_collapse

    def _warn(self, step: int, values: Mapping[str, float], judged: Mapping[str, Rule]) -> None:
        """Say what is beyond a limit; of a warning, once until it is back."""
        found = []
        for name, rule in judged.items():
            if rule.beyond(values[name], rule.stop):
                logger.warning(
                    "training: step %d, %s is %.4f, %s %.4g: %s",
                    step, name, values[name], rule.side, rule.stop, rule.meaning,
                )  # fmt: skip
            elif rule.beyond(values[name], rule.warn):
                found.append(name)
                if name not in self.warned:
                    logger.warning(
                        "training: step %d, %s is %.4f, %s %.4g, the limit of a warning",
                        step, name, values[name], rule.side, rule.warn,
                    )  # fmt: skip
        self.warned = found

    def _keep(self, was_bad: bool, is_bad: bool) -> None:
        last, good = (self.folder / "checkpoints" / name for name in ("last.ckpt", GOOD))
        if is_bad and not was_bad and last.exists():
            with atomic_path(good) as aside:
                shutil.copyfile(last, aside)
        elif not is_bad:
            good.unlink(missing_ok=True)

    def _stop(
        self,
        trainer: Trainer,
        before: Mapping[str, Any],
        twice: list[str],
        judged: Mapping[str, Rule],
    ) -> NoReturn:
        good = self.folder / "checkpoints" / GOOD
        report = {
            "rules": [{**asdict(judged[name]), "metric": name} for name in twice],
            "validations": [
                {"step": seen["step"], "values": _nulled(seen["values"])}
                for seen in (before, self.before)
            ],
            "step": self.before["step"],
            "checkpoint": str(good.relative_to(self.folder)) if good.exists() else None,
        }
        if trainer.is_global_zero:
            write_atomic(self.folder / REPORT, json.dumps(report, indent=1, allow_nan=False) + "\n")
        raise CollapseError(collapse_message(self.folder, report))


def _monitor(trainer: Trainer) -> Monitor:
    callbacks = trainer.callbacks  # type: ignore[attr-defined]
    return next(each for each in callbacks if isinstance(each, Monitor))


def read_collapse(folder: Path) -> dict[str, Any] | None:
    """The collapse report of a run folder, if there is one.

    Raises:
        CislensError: if it is damaged.
    """
    path = folder / REPORT
    if not path.exists():
        return None
    return read_json(path, "collapse report")


def refuse_collapsed(folder: Path) -> None:
    """Refuse to go on with a run that has collapsed.

    Raises:
        CollapseError: if it has, with the message that it ended with.
    """
    if report := read_collapse(folder):
        raise CollapseError(collapse_message(folder, report))


def collapse_message(folder: Path, report: Mapping[str, Any]) -> str:
    """What a report says, in words."""
    first, second = report["validations"]
    found = "; ".join(
        f"{rule['metric']} is {_said(second, rule)}, {rule['side']} {rule['stop']:.4g} (step "
        f"{first['step']}: {_said(first, rule)}): {rule['meaning']}"
        for rule in report["rules"]
    )
    kept = "There is no checkpoint from before it"
    if report["checkpoint"]:
        kept = f"The last good checkpoint is {folder / report['checkpoint']}"
    return (
        f"{folder}: the model has collapsed. At step {report['step']}, {found}. {kept}; "
        f"{folder / REPORT} has all values. Train into another --out, with "
        "target: sinkhorn, a lower training.learning_rate, or more weight on the masked and koleo "
        "terms; on_collapse: warn in the objective lets such a run go on."
    )


def _said(seen: Mapping[str, Any], rule: Mapping[str, Any]) -> str:
    value = seen["values"].get(rule["metric"])
    return "not finite" if value is None else f"{value:.4f}"


def _nulled(values: Mapping[str, float]) -> dict[str, float | None]:
    """Values as JSON has them."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
