"""How good a run is: scores with intervals, plots, reports, predictions."""
