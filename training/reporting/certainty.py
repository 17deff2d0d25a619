"""Section: whether the run is as often right as it is certain."""

from __future__ import annotations

from markupsafe import Markup

from headstart.training.pages.charts import chart
from headstart.training.pages.elements import note, percent, section
from headstart.training.plots.reliability import reliability
from headstart.training.reporting.evaluated import Evaluated
from headstart.training.runs.figures import deciding_images
from headstart.training.scoring.temperature import reliability_bins, without_temperature


def certainty(evaluated: Evaluated) -> Markup:
    """The reliability plot, and what the temperature is worth."""
    bins = reliability_bins(evaluated.labels, evaluated.probabilities, evaluated.groups)
    before, temperature = [], evaluated.run.temperature
    if temperature != 1:
        plain = without_temperature(evaluated.probabilities, temperature)
        before = reliability_bins(evaluated.labels, plain, evaluated.groups)
    drawn = chart(
        lambda path: reliability(bins, before, path, evaluated.name), "certainty-chart", "Share that is right, by confidence"
    )
    error = evaluated.metrics["calibration_error"]["value"]
    text = f"Calibration error {percent(error, 2)}"
    was = evaluated.metrics["without_temperature"]
    if was:
        by = deciding_images(evaluated.run.metrics["calibration"])
        without = percent(was["calibration_error"], 2)
        text += f"; without its temperature of {temperature:.3g}, found by {by}, it would be {without}"
    how = "On the dashed line, of answers with 80% confidence 80% are right; below it, the run is too sure of itself."
    return section("certainty", "How sure it is, and how often right", [drawn, note("{} {}.", how, text)])
