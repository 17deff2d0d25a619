"""The commands of the command line, a module each; they join the rooms, and nothing imports them.

May import features, features.backbones, features.dataset, features.engines, features.places, features.store, pipelines,
training, training.auditing, training.comparing, training.evaluation, training.exporting, training.finetuning, training.pages,
training.predicting, training.probing, training.reporting, training.runs, training.scoring, training.tasks.
"""
