"""headstart report: a run and an evaluation of it in, one page out that opens from disk.

1. what evaluation left                             training/reporting/evaluated.py
2. the images, where they still are                 training/evaluation/pictures.py
3. sections, a module each; those that show most come first to the bytes that a page has for pictures
4. the document                                     training/reporting/page.py
"""

from __future__ import annotations

import os

from markupsafe import Markup

from headstart.features import files
from headstart.features.dataset.labels import refuse_several
from headstart.features.places import place
from headstart.features.places.mirror import push_files
from headstart.features.runtime import quietly
from headstart.training.evaluation.pictures import Pictures
from headstart.training.reporting.album import Album
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
from headstart.training.reporting.page import page
from headstart.training.reporting.repeat import repeat
from headstart.training.reporting.report_config import INSTEAD, ReportConfig
from headstart.training.reporting.result import result
from headstart.training.runs.run_folder import REPORT, Run


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
    refuse_several(run.label_delimiter, "a report", INSTEAD)
    evaluated = Evaluated.read(run, config.split, config.seed)
    content = page(f"{run.spec.backbone}, {run.title}", _sections(evaluated)).encode()
    if config.output:
        place.write(config.output, content)
        return config.output
    path = os.path.join(run.path, REPORT)
    files.write_bytes(path, content)
    push_files(path)
    return place.join(run.home, REPORT)


def _sections(evaluated: Evaluated) -> list[Markup]:
    run, album, pictures = evaluated.run, Album(), Pictures.of(evaluated.predictions)
    model = run.model()
    examples = examples_section(evaluated, pictures, album)
    looks = attention(evaluated, pictures, model, album)
    augmented = augmentation_section(run, album)
    points = map_section(evaluated, pictures, model, album)
    return [
        result(evaluated),
        data_section(evaluated),
        learning(run),
        confusion(evaluated),
        classes(evaluated),
        certainty(evaluated),
        examples,
        points,
        looks,
        augmented,
        repeat(evaluated),
    ]
