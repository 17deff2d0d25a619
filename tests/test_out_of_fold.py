"""A temperature where there is no validation split: from heads that did not see the images that decide it."""

from __future__ import annotations

import json
import pathlib
import shutil
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.cli import main
from headstart.commands.train import describe
from headstart.features.store.feature_store import FeatureStore
from headstart.training.evaluation.folds import FOLDS, ONE_GROUP, stratified_fold_of
from headstart.training.evaluation.temperature import figures, without_temperature
from headstart.training.fitting import fit, out_of_fold
from headstart.training.fitting.calibrate import INTERRUPTED, NO_LOGITS, NO_VALIDATION, NOT_ASKED
from headstart.training.fitting.out_of_fold import ALL_ALONE
from headstart.training.runs.run_folder import Run
from headstart.training.train import train
from headstart.training.train_config import TrainConfig
from tests.conftest import raises, rewrite_manifest
from tests.test_train_head import change_features, quick, stand_in  # noqa: F401  # fixtures


# The folds.


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 12), st.integers(0, 3)), min_size=1, max_size=60), st.integers(0, 99))
def test_folds_hold_whole_groups_and_each_class_in_several(pairs: list[tuple[int, int]], seed: int) -> None:
    groups, labels = [str(group) for group, _ in pairs], np.array([label for _, label in pairs])
    folds = stratified_fold_of(groups, labels, 4, seed)
    of = {group: {fold for name, fold in zip(groups, folds) if name == group} for group in groups}
    assert all(len(each) == 1 for each in of.values())
    assert folds.min() >= 0 and folds.max() < min(FOLDS, len(of))
    assert np.array_equal(folds, stratified_fold_of(groups, labels, 4, seed))
    assert np.array_equal(folds, stratified_fold_of(groups, np.eye(4, dtype=np.uint8)[labels], 4, seed))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(2, 30), min_size=2, max_size=5), st.integers(0, 99))
def test_each_class_is_in_about_equal_parts(counts: list[int], seed: int) -> None:
    labels = np.repeat(np.arange(len(counts)), counts)
    folds = stratified_fold_of([str(number) for number in range(len(labels))], labels, len(counts), seed)
    for label in range(len(counts)):
        parts = np.bincount(folds[labels == label], minlength=FOLDS)
        assert parts.max() - parts.min() <= 1


def test_another_seed_is_another_division() -> None:
    names, labels = [str(number) for number in range(80)], np.arange(80) % 2
    assert not np.array_equal(stratified_fold_of(names, labels, 2, 3), stratified_fold_of(names, labels, 2, 4))
