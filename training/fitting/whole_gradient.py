"""A linear head by whole gradients: all features of a split in, its last layer's weights out; an epoch is one step of L-BFGS.

Adam takes a small step for every few images, and with a thousand classes needs dozens of epochs. Here the first epoch is ridge
regression, chosen by the validation split (training/fitting/first_step.py); those after it are L-BFGS's, in coordinates that
make the curvature about 1. Often the first is the best.

Source: Nocedal and Wright, "Numerical Optimization", sections 3.3 and 7.2, https://doi.org/10.1007/978-0-387-40065-5
"""

from __future__ import annotations

import math
from collections.abc import Callable

import keras
import numpy as np

from headstart.features.errors import UserError
from headstart.features.progress import Progress
from headstart.training.fitting.blocks import Blocks, Floats, sums
from headstart.training.fitting.checkpoint import BestCheckpoint, Interrupted, interruptible
from headstart.training.fitting.first_step import first_step
from headstart.training.fitting.pipeline import Labels, WholeSource, validation_pipeline
from headstart.training.fitting.recipe import FitResult, Recipe

STEPS_KEPT = 8  # that the curvature is told from


class _Over(Exception):
    """Patience has run out."""


def fit_whole(model: keras.Model, source: WholeSource, recipe: Recipe) -> FitResult:
    """Fits a linear head of `build_head`, from nothing, and keeps the best epoch.

    Nothing in it is random, and no rate is to be chosen. It leaves no checkpoint: called again after a kill, it begins anew.

    Args:
        model: from features to probabilities; its layer `logits` is fitted.
        source: what on: the images as they are, not their augmented views.
        recipe: how; rates, batches and precision have no say.

    Raises:
        UserError: for features that are not finite.
        KeyboardInterrupt: for Ctrl-C before there was anything to keep.
    """
    from scipy.optimize import minimize

    with interruptible() as asked:
        keep = BestCheckpoint("", {}, recipe.monitor, recipe.patience)
        keep.set_model(model)
        progress = Progress(recipe.progress, recipe.epochs, "epochs")
        interrupted = False
        try:
            descent = _Descent(model, source, recipe, keep, progress, asked)
            if recipe.epochs > 1:
                options = {"maxiter": recipe.epochs - 1, "maxcor": STEPS_KEPT}
                minimize(descent.cost, descent.start, jac=True, method="L-BFGS-B", callback=descent.take, options=options)
        except _Over:
            pass
        except Interrupted:
            interrupted = True
        finally:
            progress.close()
        if not keep.best_weights:
            raise KeyboardInterrupt
        keep.restore_best()
    begun_by = "" if source.validation_size is None else "validation"
    return FitResult(keep.history, keep.baseline, keep.best_epoch, recipe.monitor, interrupted, begun_by)


class _Descent:
    """What L-BFGS asks of a head at a place, and what becomes of the place that an epoch ends at. The first epoch is done."""

    def __init__(
        self,
        model: keras.Model,
        source: WholeSource,
        recipe: Recipe,
        keep: BestCheckpoint,
        progress: Progress,
        asked: Callable[[], bool],
    ) -> None:
        self.keep, self.progress, self.asked, self.several = keep, progress, asked, recipe.task.several
        self.layer = model.get_layer("logits")
        body = keras.Model(model.input, self.layer.input)
        size, classes = self.layer.kernel.shape
        labels = Labels(classes, False, recipe.class_weight, self.several)
        self.training = Blocks(body, source.whole(labels.of), asked)
        validation = validation_pipeline(source, labels)
        self.validation = None if validation is None else Blocks(body, validation, asked)
        self.space = first_step(self.training, source.size.examples, self.validation, (size, classes), self.several)
        self.first: tuple[float, Floats] | None = None
        self.start, self.unit = np.zeros((size + 1) * classes), 1.0
        loss, slopes = self.cost(self.start)
        # L-BFGS's first step has the length 1: in this unit, what the gradient is long.
        self.unit = float(np.linalg.norm(slopes)) or 1.0
        self.first = loss, slopes * self.unit  # asked for again: a pass over all features less
        self.take(self.start)

    def cost(self, flat: Floats) -> tuple[float, Floats]:
        """The mean loss of the training split with what the weights cost, and its gradient."""
        if self.first and not flat.any():
            return self.first
        self.place = weights, bias = self.space.place(flat * self.unit)
        self.seen = seen = sums(self.training, weights, bias, self.several, with_gradient=True)
        seen.loss += seen.images * self.space.penalty / 2 * float(np.square(weights).sum())
        slopes = self.space.slopes(seen.weights / seen.images + self.space.penalty * weights, seen.bias / seen.images)
        return seen.loss / seen.images, slopes * self.unit

    def take(self, _: Floats) -> None:
        """Ends an epoch, at the place that was looked at last."""
        weights, bias = self.place
        self.layer.set_weights([weights, bias])
        figures = self.seen.figures("", self.several)
        if self.validation is not None:
            held = sums(self.validation, weights, bias, self.several, with_gradient=False)
            figures |= held.figures("val_", self.several)
        if not math.isfinite(figures.get("val_loss", 0.0)):
            raise UserError("bad-numbers", "a feature of the validation split is not finite: check the features")
        self.keep.on_epoch_end(self.keep.epochs, figures)
        self.progress.update(self.keep.epochs)
        if self.asked():
            raise Interrupted
        if self.keep.is_over():
            raise _Over
