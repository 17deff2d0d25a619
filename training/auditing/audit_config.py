"""What `headstart audit` takes."""

from __future__ import annotations

from dataclasses import dataclass

from headstart.features.config import check_fields, flag, positional, required
from headstart.features.errors import UserError, nearest

KINDS = ("leaks", "conflicts", "label_errors", "shortcuts", "groups", "outliers", "duplicates", "small_classes")


@dataclass(frozen=True)
class AuditConfig:
    """Looks for what may be wrong with a dataset: copies, wrong labels, shortcuts, groups, outliers, small classes."""

    store: str = positional("the folder of a feature store", metavar="STORE")
    output: str = required("the folder to leave tables and contact sheets in", metavar="DIR")
    tap: str | None = flag(None, "the tap whose features are compared, by its name (default: the deepest)")
    images: str = flag("", "where the images lie, if no longer where they were extracted from", metavar="INPUT")
    run: str = flag("", "whose score is told with and without copies (default: a linear probe's)", metavar="RUN")
    fail_on: str = flag("", f"exit with status 1 when any of these was found, by commas: {', '.join(KINDS)}", metavar="KINDS")
    seed: int = flag(0, "of the folds", least=0)

    def __post_init__(self) -> None:
        check_fields(self)
        for kind in self.failing:
            if kind not in KINDS:
                raise UserError(
                    "bad-flag", f"--fail_on takes {', '.join(KINDS)}, by commas, not {kind!r}.{nearest(kind, KINDS)}"
                )

    @property
    def failing(self) -> tuple[str, ...]:
        """The kinds that make the command fail."""
        return tuple(part.strip() for part in self.fail_on.split(",")) if self.fail_on else ()
