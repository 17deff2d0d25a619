"""An evaluation's folder in a run: whole or not there, and of the very run that was measured."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from headstart.features import files
from headstart.features.places.mirror import push_files
from headstart.training.runs.run_folder import EVALUATION, Run


@contextlib.contextmanager
def written_whole(run: Run, name: str) -> Iterator[str]:
    """A folder to write an evaluation into, which takes the place of an older one of that name when the block ends well.

    Args:
        run: what was measured.
        name: of the evaluation.

    Raises:
        UserError: when another training took the run's place since it was opened: nothing is left in the new one.
    """
    run.check_same()
    final = os.path.join(run.path, EVALUATION, name)
    with files.scratch_folder(run.path) as scratch:  # what a killed evaluation left goes with the next one
        work = os.path.join(scratch, name)
        os.mkdir(work)
        yield work
        with files.held(run.path):  # no training can be put in the run's place before it is done
            run.check_same()
            os.makedirs(os.path.dirname(final), exist_ok=True)
            if os.path.isdir(final):
                os.replace(final, os.path.join(scratch, "older"))
            os.replace(work, final)
    push_files(final)
