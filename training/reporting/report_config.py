"""What `headstart report` takes."""

from __future__ import annotations

from dataclasses import dataclass

from headstart.features.config import check_fields, flag, positional


@dataclass(frozen=True)
class ReportConfig:
    """Writes all that is known of a run as one page that opens from disk, RUN/report.html."""

    run: str = positional("the folder of a run that was evaluated", metavar="RUN")
    split: str = flag("test", "the evaluation's name: a split, or what `headstart evaluate` called it")
    output: str = flag("", "where the page goes (default: RUN/report.html)", metavar="FILE")
    seed: int = flag(0, "of what is drawn at random: images that are shown, and the map", least=0)
    unsafe: bool = flag(False, "run Python code that a model file brings along in Lambda layers")

    def __post_init__(self) -> None:
        check_fields(self)
