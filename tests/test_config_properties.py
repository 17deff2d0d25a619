"""Every command's configuration: written as flags and read again it is the same, and refused alike from Python and there."""

from __future__ import annotations

import dataclasses
import math
import os
import types
import typing
from collections.abc import Collection, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.commands.backbones import BackbonesConfig
from headstart.commands.clean import CleanConfig
from headstart.commands.demo import DemoConfig
from headstart.commands.fit import FitConfig
from headstart.commands.info import InfoConfig
from headstart.commands.notebook import NotebookConfig
from headstart.commands.verify import VerifyConfig
from headstart.features.command_line import as_flags, parse
from headstart.features.config import Bounds
from headstart.features.errors import UserError
from headstart.pipelines.extract_config import ExtractConfig
from headstart.training.auditing.audit_config import AuditConfig
from headstart.training.evaluation.evaluate_config import EvaluateConfig
from headstart.training.finetuning.finetune_config import FinetuneConfig
from headstart.training.predicting.predict_config import PredictConfig
from headstart.training.probing.learning_curve_config import LearningCurveConfig
from headstart.training.probing.probe_config import ProbeConfig
from headstart.training.reporting.report_config import ReportConfig
from headstart.training.train_config import TrainConfig

NAMES = st.text(min_size=1).filter(lambda text: text != "--" and "://" not in text)
SIZES = st.sampled_from(["64", "64,96", "64x96"])
EXTRACTION = {
    "label_delimiter": st.just(""),  # with one, flags are refused that are for one label an image
    "image_size": SIZES,
    "taps": st.lists(st.sampled_from(["auto", ":none", "a/b:avg", "-c:grid3", ""]), max_size=3).map(tuple),
    "splits": st.sampled_from(["train=1", "train=0.5,test=0.5"]),
    "intensity": st.sampled_from(["auto", "window:-5,4095"]),
}
GOAL = {"operating_point": st.sampled_from(["recall@precision=0.95", "specificity@sensitivity=1"])}
FROM_IMAGES = {
    **GOAL,
    "from_store": st.just(""),
    "devices": st.just(1),
    "head": st.just("linear"),
    "dropout": st.just(0.5),
    **{f"unfreeze_{end}": st.just("") for end in ("from", "after")},
}
FROM_IMAGES |= {
    "unfreeze_last": st.integers(1, 99),
    "unfreeze_all": st.just(False),
    "input": NAMES,
    "init_from": st.just("other"),
}
OWN: dict[type, dict[str, st.SearchStrategy[Any]]] = {  # where a field's text has a grammar, or fields depend on each other
    ExtractConfig: EXTRACTION,
    TrainConfig: {**GOAL, "refit": st.just(False), "head": st.just("mlp"), "solver": st.just("adam")},
    FinetuneConfig: {**FROM_IMAGES, "run": st.just("run")},
    EvaluateConfig: {"input": NAMES, "by": st.lists(NAMES, min_size=1, max_size=3).map(tuple)},
    BackbonesConfig: {"image_size": SIZES},
    NotebookConfig: {"image_size": SIZES},
    PredictConfig: {"output": st.sampled_from(["a b", "-/"]), "with_features": st.just(False), "review": st.just(0)},
    AuditConfig: {"fail_on": st.sampled_from(["", "leaks", "leaks,label_errors"])},
    ProbeConfig: {"stores": st.lists(st.sampled_from(["a", "-b", "c d"]), min_size=1, unique=True).map(tuple)},
}
SMALLEST: dict[type, Any] = {
    ExtractConfig: ExtractConfig(input="photos", store="store"),
    TrainConfig: TrainConfig(store="store", run="run"),
    FinetuneConfig: FinetuneConfig(input="photos", init_from="run", run="better"),
    ProbeConfig: ProbeConfig(stores=("store",), run="run"),
    EvaluateConfig: EvaluateConfig("run"),
    AuditConfig: AuditConfig("store", "audit"),
    LearningCurveConfig: LearningCurveConfig(store="store", run="run"),
    ReportConfig: ReportConfig("run"),
    PredictConfig: PredictConfig("run", ("a.png",)),
    BackbonesConfig: BackbonesConfig(),
    InfoConfig: InfoConfig("store"),
    VerifyConfig: VerifyConfig("store"),
    CleanConfig: CleanConfig("store"),
    DemoConfig: DemoConfig(),
    NotebookConfig: NotebookConfig(input="photos"),
}


def numbers(bounds: Bounds, kind: type) -> st.SearchStrategy[Any]:
    """Numbers within bounds."""
    low = bounds.least if bounds.above is None else bounds.above
    high = bounds.most if bounds.below is None else bounds.below
    if kind is int:
        return st.integers(low, high).filter(lambda number: number in bounds)  # type: ignore[arg-type]
    return st.floats(low, high, allow_nan=False, allow_infinity=False).filter(lambda number: number in bounds)


def values(field: dataclasses.Field[Any], hint: Any) -> st.SearchStrategy[Any]:
    """What a field may be, as its type and metadata say."""
    parts = typing.get_args(hint)
    if choices := field.metadata.get("choices"):
        return st.sampled_from([*choices])
    if types.NoneType in parts:
        return st.one_of(st.none(), values(field, parts[0]))
    if parts:
        return st.lists(NAMES, min_size=1, max_size=3).map(tuple)
    if hint in (int, float):
        return numbers(field.metadata.get("bounds", Bounds()), hint)
    return st.booleans() if hint is bool else NAMES


def configurations(config_class: type) -> st.SearchStrategy[Any]:
    """Configurations of a command, each field its default or another value."""
    hints = typing.get_type_hints(config_class)
    fields = [field for field in dataclasses.fields(config_class) if field.metadata]
    own = OWN.get(config_class, {})
    strategies = {field.name: values(field, hints[field.name]) for field in fields} | own
    needed = {field.name for field in fields if field.default is dataclasses.MISSING} | set(own)
    required = {name: strategy for name, strategy in strategies.items() if name in needed}
    optional = {name: strategy for name, strategy in strategies.items() if name not in needed}
    return st.fixed_dictionaries(required, optional=optional).map(lambda chosen: config_class(**chosen))


def flags(config: Any, *more: str, without: Collection[str] = ()) -> list[str]:
    """A configuration as its command line, and more flags."""
    named, positionals = list[str](), list[str]()
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if not field.metadata or value == field.default or field.name in without:
            continue
        texts = list(value) if isinstance(value, tuple) else [str(value)]
        name = field.metadata.get("flag", f"--{field.name}")
        if field.metadata.get("positional"):
            positionals += texts
        else:
            named += [name] if value is True else [f"{name}={text}" for text in texts]
    return [*named, *more, *(["--", *positionals] if positionals else [])]


@pytest.mark.slow
@pytest.mark.parametrize("config_class", SMALLEST, ids=lambda config_class: config_class.__name__)
@settings(max_examples=50)
@given(data=st.data())
def test_written_as_flags_and_read_again_it_is_the_same(config_class: type, data: st.DataObject) -> None:
    config = data.draw(configurations(config_class))
    assert parse(config_class, "headstart command", flags(config))[0] == config
    assert parse(config_class, "headstart command", as_flags(config_class, dataclasses.asdict(config)))[0] == config


def joined(extract: ExtractConfig, train: TrainConfig) -> FitConfig:
    """What `headstart fit` can be told of the two."""
    return FitConfig(
        extract=dataclasses.replace(extract, batch_size=0, dry_run=False),
        train=dataclasses.replace(train, store="", tap="", unsafe=extract.unsafe),
    )


@settings(max_examples=50)
@given(config=st.builds(joined, configurations(ExtractConfig), configurations(TrainConfig)))
def test_a_fit_is_its_parts_flags(config: FitConfig) -> None:
    training = flags(config.train, without=("store", "unsafe"))
    assert parse(FitConfig, "headstart fit", flags(config.extract, *training))[0] == config


def test_one_store_is_both_parts() -> None:
    extract, train = ExtractConfig(input="photos", store=""), TrainConfig(store="", run="run")
    config = FitConfig(extract=extract, train=train)
    assert config.extract.store == config.train.store == os.path.join("run", "store")
    with pytest.raises(UserError, match=r"^train\.store is 'b' and extract\.store 'a': give one of them$"):
        FitConfig(extract=dataclasses.replace(extract, store="a"), train=dataclasses.replace(train, store="b"))


def outside(bounds: Bounds, kind: type) -> Iterator[float]:
    """Numbers next to bounds, on the wrong side."""
    step = 1 if kind is int else 1e-9
    yield from (limit - step for limit in [bounds.least] if limit is not None)
    yield from (limit + step for limit in [bounds.most] if limit is not None)
    yield from (limit for limit in (bounds.above, bounds.below) if limit is not None)
    yield from () if kind is int else (math.nan, math.inf, -math.inf)


OUTSIDE = [
    pytest.param(config, field.name, value, id=f"{config_class.__name__}.{field.name}={value}")
    for config_class, config in SMALLEST.items()
    for field in dataclasses.fields(config_class)
    if "bounds" in field.metadata
    for value in outside(field.metadata["bounds"], int if type(field.default) is int else float)
]


@pytest.mark.parametrize(("config", "name", "value"), OUTSIDE)
def test_what_lies_outside_is_refused_from_python_and_from_flags_in_the_same_words(
    config: Any, name: str, value: float
) -> None:
    with pytest.raises(UserError, match=f"^--{name} ") as from_python:
        dataclasses.replace(config, **{name: value})
    with pytest.raises(UserError) as from_flags:
        parse(type(config), "headstart command", flags(config, f"--{name}={value}"))
    assert str(from_flags.value) == str(from_python.value)


CHOICES = [
    pytest.param(config, field, id=f"{config_class.__name__}.{field.name}")
    for config_class, config in SMALLEST.items()
    for field in dataclasses.fields(config_class)
    if "choices" in field.metadata
]


@pytest.mark.parametrize(("config", "field"), CHOICES)
def test_what_is_no_choice_is_refused_in_the_same_words(config: Any, field: dataclasses.Field[Any]) -> None:
    with pytest.raises(UserError, match=f"^--{field.name} is one of ") as from_python:
        dataclasses.replace(config, **{field.name: "no choice"})
    with pytest.raises(UserError) as from_flags:
        parse(type(config), "headstart command", flags(config, f"--{field.name}", "no choice"))
    assert str(from_flags.value) == str(from_python.value)
