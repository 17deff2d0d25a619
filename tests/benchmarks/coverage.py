"""How often intervals hold the truth, by simulation: a line for each figure, over groups, images and accuracies.

    python -m tests.benchmarks.coverage [--draws 200]

A case's coverage is of the draws in which an interval was printed; of cases where it is printed in fewer than 20 of 100 draws
nothing is said, for those draws are not like the others. Of 200 draws a coverage is known to 1.5 points, and the least of a
hundred looks 4 points too low: where less than 94.5 % are covered, four times as many draws decide, other ones.
"""

from __future__ import annotations

import argparse
import itertools
from collections import defaultdict
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple
from unittest import mock

from headstart.training.scoring import scores, set_scores
from tests.test_coverage import of_one_label, of_several_labels

GROUPED = [(2, 10), (3, 10), (5, 10), (7, 10), (10, 10), (20, 10), (30, 5), (100, 5)]  # groups, images of each
ALONE = [(count, 1) for count in (5, 10, 20, 50, 100, 180, 500, 1000)]
SHARES = (0.5, 0.8, 0.95, 0.99)
RANKED = (0.7, 0.9, 0.97)
OFTEN = 0.2
DOUBTFUL, AGAIN = 0.945, 4
REPLICATES = 200  # in place of 1,000: their spread is known from these as well
KINDS = {"one label": (of_one_label, SHARES, (2, 5)), "several labels": (of_several_labels, RANKED, (3, 10))}


class Case(NamedTuple):
    """A world: groups, images of each, classes, and the share that is right, or is ranked rightly."""

    groups: int
    each: int
    classes: int
    share: float


class Coverage(NamedTuple):
    """In which share of a case's draws an interval was printed, and in which share of these it held the truth."""

    case: Case
    printed: float
    held: float


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=200)
    draws = parser.parse_args().draws
    with ProcessPoolExecutor() as pool:
        for kind, (_, shares, classes) in KINDS.items():
            cases = [
                Case(*size, *of) for size, of in itertools.product([*GROUPED, *ALONE], itertools.product(classes, shares))
            ]
            found = defaultdict(list)
            for own in pool.map(coverages, itertools.repeat(kind), cases, itertools.repeat(draws)):
                for name, coverage in own.items():
                    found[name].append(coverage)
            print(f"{kind}: figure, cases, printed, coverage in the mean, at least 93% in, the least")
            for name, rows in found.items():
                print(_line(name, rows, len(cases)), flush=True)


def coverages(kind: str, case: Case, draws: int) -> dict[str, Coverage]:
    """A case's coverage by the figure, of so many draws, or of other ones where these leave a doubt."""
    first = _drawn(kind, case, draws, 0)
    doubtful = [name for name, coverage in first.items() if coverage.printed >= OFTEN and coverage.held < DOUBTFUL]
    again = _drawn(kind, case, AGAIN * draws, 1) if doubtful else {}
    return first | {name: again[name] for name in doubtful}


def _drawn(kind: str, case: Case, draws: int, number: int) -> dict[str, Coverage]:
    for module in (scores, set_scores):
        mock.patch.object(module, "bounded_replicates", lambda *_: REPLICATES).start()
    printed, held = KINDS[kind][0](*case, draws, [number, case.groups, case.each, case.classes, round(100 * case.share)])
    return {name: Coverage(case, times / draws, held[name] / times) for name, times in printed.items()}


def _line(name: str, rows: list[Coverage], of: int) -> str:
    told = [row for row in rows if row.printed >= OFTEN]
    worst = min(told, key=lambda row: row.held)
    groups, each, classes, share = worst.case
    return (
        f"{name:<24} {len(told):>4} {sum(row.printed for row in rows) / of:7.1%} "
        f"{sum(row.held for row in told) / len(told):7.1%} "
        f"{sum(row.held >= 0.93 for row in told) / len(told):7.1%} "
        f"{worst.held:7.1%} ({groups} x {each} images, {classes} classes, {share:g})"
    )


if __name__ == "__main__":
    main()
