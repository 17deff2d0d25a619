"""The commands of the command line, a module each; they join the rooms, and nothing imports them.

May import features, features.backbones, features.dataset, features.engines, features.places, features.store, pipelines,
training, training.auditing, training.evaluation, training.exporting, training.finetuning, training.probing,
training.pages, training.reporting, training.runs, training.tasks.
"""
