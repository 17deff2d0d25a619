"""What `headstart train` takes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from headstart.features.config import check_fields, flag, given, positional, refuse_given, required
from headstart.features.errors import UserError
from headstart.training.scoring.goals import check_flags

HEADS = ("linear", "mlp")
SOLVERS = ("auto", "adam", "lbfgs")
PRECISIONS = ("auto", "float32", "mixed_float16", "mixed_bfloat16")
CLASS_WEIGHTS = ("none", "balanced")
MONITORS = ("val_loss", "val_accuracy", "loss", "accuracy")
OF_ADAM = ("batch_size", "learning_rate", "precision")  # flags that no other solver reads
OF_EPOCHS = ("epochs", "patience", "solver", "batch_size", "learning_rate", "monitor", "precision")
DECISIONS = ("no_calibrate", "operating_point", "positive_class")  # made when the training is over


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Trains a head on the features of a store."""

    store: str = positional("the folder of a feature store", metavar="STORE")
    run: str = required("the folder to leave the model and its figures in", metavar="RUN")
    head: str = flag("linear", "linear: a linear probe; mlp: Dense 256, ReLU, dropout, softmax", choices=HEADS)
    tap: str = flag("", "which of the store's taps, as LAYER:POOL (default: the deepest)")
    epochs: int = flag(100, "at most; early stopping ends sooner where there is a validation split", least=1)
    patience: int = flag(10, "epochs without a better --monitor before it stops", least=1)
    solver: str = flag(
        "auto",
        "lbfgs: a linear head by whole gradients, ten epochs or so, and no rate to choose; auto: that for a linear head, "
        "and adam for an mlp, for augmented views, or where a flag of Adam's is given",
        choices=SOLVERS,
    )
    batch_size: int = flag(32, "examples a step of Adam", least=1)
    learning_rate: float = flag(3e-4, "of Adam", aliases=("--lr",), above=0)
    dropout: float = flag(0.5, "share of the mlp's hidden units dropped", least=0, below=1)
    class_weight: str = flag(
        "none", "balanced: every class counts the same, however many examples it has", choices=CLASS_WEIGHTS
    )
    monitor: str = flag("val_loss", "what the best epoch is best at", choices=MONITORS)
    precision: str = flag("auto", "auto: mixed where the GPU has tensor cores, else float32", choices=PRECISIONS)
    seed: int = flag(0, "of the first weights, the order of examples and the dropout", least=0, below=2**32)
    no_calibrate: bool = flag(
        False,
        "leave the probabilities as training made them: no temperature by the validation split, or, where there is none, out "
        "of fold, which takes about 4 times the training again",
    )
    operating_point: str = flag(
        "", "choose a threshold by the validation split, such as recall@precision=0.95", metavar="WANTED@HELD=SHARE"
    )
    positive_class: str = flag("", "the class that the threshold is for (default: the last of two)", metavar="CLASS")
    refit: bool = flag(
        False,
        "for few images: a linear head at its optimum on train and validation together, its regularisation chosen by "
        "cross-validation; no epochs, and validation says nothing of it any more",
    )
    unsafe: bool = flag(False, "run Python code that a model file brings along in Lambda layers")

    def __post_init__(self) -> None:
        check_fields(self)
        check_flags(self.operating_point, self.positive_class)
        if self.refit and self.head != "linear":
            raise UserError("bad-flag", f"--refit is for the linear head, and --head is {self.head}: leave one of them out")
        if self.refit:
            refuse_given(self, OF_EPOCHS, "is of training by epochs, and --refit finds the optimum without")
        if self.solver == "lbfgs":
            if self.head != "linear":
                told = f"--solver lbfgs is for the linear head, and --head is {self.head}: leave one of them out"
                raise UserError("bad-flag", told)
            refuse_given(self, OF_ADAM, "is of --solver adam, and --solver lbfgs has none")
        if self.head != "mlp":
            refuse_given(self, ("dropout",), "is of the mlp, and --head is linear")
        if self.refit and self.operating_point:
            raise UserError("bad-flag", "--operating_point is chosen by validation, which --refit trains on: leave one out")

    @property
    def at_once(self) -> str:
        """The flag by which the built-in linear head is fitted to all plain images at once; '' where it is not."""
        return "--refit" if self.refit else "--solver lbfgs" if self.solver == "lbfgs" else ""

    @property
    def precision_asked(self) -> str:
        """Of what the head is computed in: whole gradients have float32 alone."""
        return "float32" if self.solver == "lbfgs" else self.precision

    def settled(self, plain: bool) -> TrainConfig:
        """The same with the solver that `auto` means; plain says that head and loss are built in, and no image has augmented
        views."""
        if self.refit or self.solver != "auto":
            return self
        whole = plain and self.head == "linear" and not given(self, OF_ADAM)
        return dataclasses.replace(self, solver="lbfgs" if whole else "adam")
