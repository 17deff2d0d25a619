"""headstart report: a run and an evaluation of it in, one page out that opens from disk.

1. what evaluation left                             training/reporting/evaluated.py
2. the images, where they still are                 training/predicting/pictures.py
3. sections, a module each; those that show most come first to the bytes that a page has for pictures
4. the document                                     training/pages/page.py
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence

from markupsafe import Markup

from headstart.features import files
from headstart.features.errors import UserError
from headstart.features.places import place
from headstart.features.places.mirror import push_files
from headstart.features.runtime import quietly
from headstart.training.evaluation.evaluate import evaluate
from headstart.training.evaluation.evaluate_config import EvaluateConfig
from headstart.training.pages.album import Album
from headstart.training.pages.elements import note, section
from headstart.training.pages.page import REPORT, page
from headstart.training.predicting.pictures import Pictures
from headstart.training.predicting.predictions import PREDICTIONS, Predictions
from headstart.training.reporting.attention import attention
from headstart.training.reporting.augmentation_section import augmentation_section
from headstart.training.reporting.certainty import certainty
from headstart.training.reporting.classes import classes
from headstart.training.reporting.confusion import confusion
from headstart.training.reporting.data_section import data_section
from headstart.training.reporting.evaluated import Evaluated
from headstart.training.reporting.examples_section import examples_section
from headstart.training.reporting.learning import learning
from headstart.training.reporting.map_section import map_section
from headstart.training.reporting.repeat import repeat, report_command
from headstart.training.reporting.report_config import ReportConfig
from headstart.training.reporting.result_section import result_section
from headstart.training.reporting.set_sections import label_classes, set_examples, sets_result
from headstart.training.reporting.trained_section import trained_section
from headstart.training.runs.run_folder import EVALUATION, Run
from headstart.training.runs.shared_model import shared_model

ANSWERS_AT_ONCE = 2_000_000  # probabilities of which a command leaves a page by itself
AT_ONCE = 13 * ANSWERS_AT_ONCE  # bytes of the predictions.csv that has them
CHOOSING = "validation"
More = Callable[[Evaluated, Pictures, Album], list[Markup]]


@quietly
def report(config: ReportConfig) -> str:
    """Writes a run's page, whole or not there; the same run, evaluation, images and seed give the same bytes.

    Args:
        config: what `headstart report` takes.

    Returns:
        The page's path.

    Raises:
        UserError: for a run that is not complete, or an evaluation that it does not have.
    """
    run = Run.open(config.run, config.unsafe)
    return _write(run, _sections(run, config.split, with_network, config.seed), config.output)


@quietly
def leave_report(path: str, name: str = "") -> str:
    """Writes the page that a command leaves beside a run: what takes no network, and so a second or less.

    Args:
        path: of the run.
        name: of the evaluation that the page is to show; '' for none: the page then says how to get one.

    Returns:
        The page's path; or, of so many answers that reading them again takes long, the command that makes the page.
    """
    run = Run.open(path)
    if name and os.path.getsize(os.path.join(run.path, EVALUATION, name, PREDICTIONS)) > AT_ONCE:
        return report_command(run, name)
    return _write(run, _sections(run, name, without_network) if name else _of_training(run))


@quietly
def leave_training_report(run: Run) -> str:
    """The page that a training leaves beside its run, with what its validation split can show: it is measured for that.

    One that was fitted to is not, nor one of so many answers that it takes long: the page then says how. Nor is it where its
    images are gone, which stored maps can do without: a line on stderr says so. A run that had a page already keeps it.

    Returns:
        The page's path.
    """
    if os.path.isfile(os.path.join(run.path, REPORT)):
        return place.join(run.home, REPORT)
    chose = any(name.startswith("val_") for name in run.metrics)
    if not chose or len(run.class_names) * len(run.table.examples(CHOOSING)) > ANSWERS_AT_ONCE:
        return leave_report(run.home)
    try:
        evaluate(EvaluateConfig(run.home, split=CHOOSING, unsafe=run.unsafe))
    except UserError as error:
        print(f"warning: the run is whole, and its page shows no evaluation: {error}", file=sys.stderr)
        return leave_report(run.home)
    return leave_report(run.home, CHOOSING)


def _write(run: Run, sections: Sequence[Markup], output: str = "") -> str:
    content = page("Report of a run", f"{run.spec.backbone}, {run.title}", sections)
    if output:
        place.write(output, content)
        return output
    run.check_same()
    path = os.path.join(run.path, REPORT)
    files.write_bytes(path, content)
    push_files(path)
    return place.join(run.home, REPORT)


def _of_training(run: Run) -> list[Markup]:
    """What is known of a run that was not evaluated."""
    return [
        trained_section(run),
        data_section(run),
        learning(run),
        augmentation_section(run, Album()),
        repeat(run, None),
    ]


def _sections(run: Run, name: str, more: More, seed: int = 0) -> list[Markup]:
    """All that is known of an evaluated run; more are sections for which a network may have to run."""
    if run.label_delimiter:
        return _of_sets(run, Predictions.of_run(run, name))
    evaluated, album = Evaluated.read(run, name, seed), Album()
    pictures = Pictures.of(evaluated.predictions)
    examples = examples_section(evaluated, pictures, album)
    augmented = augmentation_section(run, album)
    return [
        result_section(evaluated),
        data_section(run, evaluated.predictions),
        learning(run),
        confusion(evaluated),
        classes(evaluated),
        certainty(evaluated),
        examples,
        *more(evaluated, pictures, album),
        augmented,
        repeat(run, evaluated.predictions),
    ]


def _of_sets(run: Run, evaluated: Predictions) -> list[Markup]:
    """The same where each answer is a set of labels."""
    album = Album()
    return [
        sets_result(evaluated),
        data_section(run, evaluated),
        learning(run),
        label_classes(evaluated),
        set_examples(evaluated, Pictures.of(evaluated), album),
        augmentation_section(run, album),
        repeat(run, evaluated),
    ]


def with_network(evaluated: Evaluated, pictures: Pictures, album: Album) -> list[Markup]:
    """The map of the features, and where the network looks, which has the first choice of the room for pictures."""
    model = shared_model(evaluated.run)
    looks = attention(evaluated, pictures, model, album)
    return [map_section(evaluated, pictures, model, album), looks]


def without_network(evaluated: Evaluated, pictures: Pictures, album: Album) -> list[Markup]:
    """How to get them."""
    text = "Where the network looks, and a map of the features, take longer: <code>{}</code> adds them."
    return [section("more", "More", [note(text, report_command(evaluated.run, evaluated.name))])]
