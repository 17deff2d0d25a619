"""What `headstart probe` takes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from headstart.features.config import check_fields, flag, positional, required
from headstart.features.errors import UserError
from headstart.features.places import place


@dataclass(frozen=True, kw_only=True)
class ProbeConfig:
    """Fits a linear probe to every tap of one or more stores, and tells which tap of which backbone to take."""

    stores: Sequence[str] = positional("folders of feature stores", metavar="STORE", nargs="+")
    run: str = required("the folder to leave the table and the plot in", metavar="RUN")
    max_examples: int = flag(4000, "images of a split, at most: a random sample of them, the same each time", least=2)
    seed: int = flag(0, "of the folds and the bootstrap", least=0)

    def __post_init__(self) -> None:
        check_fields(self)
        if len(set(map(place.absolute, self.stores))) < len(self.stores):
            raise UserError("bad-flag", f"a store is named twice: {' '.join(self.stores)}")
