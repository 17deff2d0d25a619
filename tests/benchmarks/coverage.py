"""How often intervals hold the truth, by simulation: a line for each figure, over groups, images and accuracies.

    python -m tests.benchmarks.coverage [--draws 300]

A case's coverage is of the draws in which an interval was printed; of cases where it is printed in fewer than 20 of 100 draws
nothing is said, for those draws are not like the others.
"""

from __future__ import annotations

import argparse
import itertools
from collections import defaultdict
from typing import NamedTuple
from unittest import mock

from headstart.training.scoring import scores, set_scores
from tests.test_coverage import of_one_label, of_several_labels

GROUPED = [(2, 10), (3, 10), (5, 10), (7, 10), (10, 10), (20, 10), (30, 5), (100, 5)]  # groups, images of each
ALONE = [(count, 1) for count in (5, 10, 20, 50, 100, 180, 500, 1000)]
SHARES = (0.5, 0.8, 0.95, 0.99)
RANKED = (0.7, 0.9, 0.97)
OFTEN = 0.2
REPLICATES = 200  # in place of 1,000: their spread is known from these as well


class Case(NamedTuple):
    """Where it was, in which share of the draws an interval was printed, and in which share of these it held the truth."""

    where: str
    printed: float
    held: float


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draws", type=int, default=300)
    draws = parser.parse_args().draws
    for module in (scores, set_scores):
        mock.patch.object(module, "bounded_replicates", lambda *_: REPLICATES).start()
    for title, measured, shares, classes in (
        ("one label", of_one_label, SHARES, (2, 5)),
        ("several labels", of_several_labels, RANKED, (3, 10)),
    ):
        found = defaultdict(list)
        for (groups, each), share, count in itertools.product([*GROUPED, *ALONE], shares, classes):
            printed, held = measured(groups, each, count, share, draws)
            for name, times in printed.items():
                where = f"{groups} x {each} images, {count} classes, {share:g}"
                found[name].append(Case(where, times / draws, held[name] / times))
        print(f"{title}: figure, cases, printed, coverage in the mean, at least 93% in, the least")
        for name, cases in found.items():
            print(_line(name, cases, len(shares) * len(classes) * len([*GROUPED, *ALONE])), flush=True)


def _line(name: str, cases: list[Case], of: int) -> str:
    told = [case for case in cases if case.printed >= OFTEN]
    worst = min(told, key=lambda case: case.held)
    return (
        f"{name:<24} {len(told):>4} {sum(case.printed for case in cases) / of:7.1%} "
        f"{sum(case.held for case in told) / len(told):7.1%} "
        f"{sum(case.held >= 0.93 for case in told) / len(told):7.1%} {worst.held:7.1%} ({worst.where})"
    )


if __name__ == "__main__":
    main()
