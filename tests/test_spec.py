"""What makes two features comparable: fingerprints, taps, and a module that costs nothing to import."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headstart.features.errors import UserError
from headstart.features.spec import (
    INTERPOLATIONS,
    PREPROCESSINGS,
    RESIZE_MODES,
    STORE_DTYPES,
    FeatureSpec,
    Tap,
    parse_intensity,
)

SPEC = FeatureSpec(
    "VGG16", "ab" * 32, (224, 192), (Tap("block5_pool", "avg", (512,)), Tap("block4_pool", "grid2", (2, 2, 512))), "caffe"
)
OTHERS = {
    "backbone": "VGG19",
    "weights_digest": "cd" * 32,
    "image_size": (192, 224),
    "taps": SPEC.taps[::-1],
    "preprocessing": "tf",
    "resize_mode": "crop",
    "interpolation": "area",
    "compute_dtype": "bfloat16",
    "store_dtype": "float32",
}

taps = st.lists(
    st.builds(
        Tap, st.sampled_from(["a", "b", "c/d"]), st.sampled_from(["none", "avg", "max", "grid2"]), st.tuples(st.integers(1, 3))
    ),
    min_size=1,
    max_size=2,
    unique_by=lambda tap: tap.name,
).map(tuple)
specs = st.builds(
    FeatureSpec,
    st.sampled_from(["VGG16", "ResNet50"]),
    st.sampled_from(["00", "11"]),
    st.tuples(st.integers(31, 32), st.integers(31, 32)),
    taps,
    st.sampled_from(PREPROCESSINGS),
    st.sampled_from(RESIZE_MODES),
    st.sampled_from(INTERPOLATIONS),
    st.just("float32"),
    st.sampled_from(STORE_DTYPES),
)


@given(specs, specs)
def test_fingerprints_are_equal_when_specs_are(one: FeatureSpec, other: FeatureSpec) -> None:
    assert (one.fingerprint == other.fingerprint) == (one == other)
    assert one.fingerprint == dataclasses.replace(one).fingerprint


@given(specs)
def test_a_spec_reads_back_from_json(spec: FeatureSpec) -> None:
    again = FeatureSpec.from_json(json.loads(json.dumps(spec.to_json())))
    assert again == spec and hash(again) == hash(spec) and again.fingerprint == spec.fingerprint


@pytest.mark.parametrize("field", sorted(OTHERS))
def test_every_field_counts_and_is_named_with_both_values(field: str) -> None:
    other = dataclasses.replace(SPEC, **{field: OTHERS[field]})
    assert other != SPEC and other.fingerprint != SPEC.fingerprint
    (line,) = SPEC.differences(other)
    mine, theirs = line.removeprefix(f"{field}: ").split(" is not ")
    assert SPEC.differences(SPEC) == []
    if field == "taps":
        names = [f"block5_pool:avg {SPEC.taps[0].shape}", f"block4_pool:grid2 {SPEC.taps[1].shape}"]
        assert mine == ", ".join(names) and theirs == ", ".join(names[::-1])
    else:
        assert mine.strip("[]") == str(getattr(SPEC, field)).strip("()") and theirs.strip("[]") == str(OTHERS[field]).strip(
            "()"
        )


def test_the_fingerprint_is_the_same_in_another_process_and_imports_nothing_heavy() -> None:
    code = f"""if True:
        import json, sys
        from headstart.features.spec import FeatureSpec
        print(FeatureSpec.from_json(json.loads({json.dumps(SPEC.to_json())!r})).fingerprint)
        print(*sorted({{"tensorflow", "apache_beam", "numpy", "keras", "PIL"}} & set(sys.modules)))
    """
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert output == f"{SPEC.fingerprint}\n\n"


def test_the_fingerprint_does_not_change_between_versions() -> None:
    assert SPEC.fingerprint == "86cfe580eaf1c1a502a57bf2a9e811d95d85f948c52ccd8ac3e56e0c8cb53330"  # stores on disk hold it


@pytest.mark.parametrize(
    ("text", "layer", "pool"),
    [
        ("block5_pool", "block5_pool", ""),
        ("a:max", "a", "max"),
        (":none", "", "none"),
        ("", "", ""),
        ("x/y:grid12", "x/y", "grid12"),
    ],
)
def test_taps_are_parsed(text: str, layer: str, pool: str) -> None:
    assert Tap.parse(text) == Tap(layer, pool)


@pytest.mark.parametrize("text", ["a:mean", "a:grid", "a:grid0", "a:grid-1", "a:avg:max", "a:AVG", "a:avg "])
def test_bad_pools_are_refused(text: str) -> None:
    with pytest.raises(UserError, match=r"a tap's pooling is none, avg, max or gridK .grid3., not "):
        Tap.parse(text)


def test_a_tap_has_a_name_and_a_size() -> None:
    assert Tap("conv2/block1/out", "avg", (3, 4, 5)).name == "conv2.block1.out:avg"
    assert Tap("a", "none", (3, 4, 5)).size == 60
    assert SPEC.bytes_per_example == 2 * (512 + 2 * 2 * 512)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("preprocessing", "keras", "preprocessing is one of none, unit, tf, caffe, torch, lite, not 'keras'"),
        ("resize_mode", "stretch", "resize_mode is one of squash, crop, pad, not 'stretch'"),
        ("interpolation", "nearest", "interpolation is one of bilinear, bicubic, area, not 'nearest'"),
        ("store_dtype", "float64", "store_dtype is one of float16, bfloat16, float32, not 'float64'"),
        ("taps", (), "expected one or more different taps"),
        ("taps", (Tap("a", "avg"), Tap("a", "avg")), r"expected one or more different taps, received \['a:avg', 'a:avg'\]"),
    ],
)
def test_bad_values_are_refused(field: str, value: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        dataclasses.replace(SPEC, **{field: value})


def test_lists_become_tuples_so_that_specs_can_be_keys() -> None:
    assert hash(FeatureSpec("VGG16", "00", [32, 32], [Tap("a", "avg", [3])], "caffe"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "text", ["", "half", "window", "window:1", "window:2,1", "window:1,1", "window:0,inf", "window:a,b", "full:1,2"]
)
def test_an_intensity_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="--intensity is full, auto or window:LO,HI"):
        parse_intensity(text)


def test_intensity_is_part_of_what_a_feature_is() -> None:
    spec = FeatureSpec("A", "", (8, 8), (Tap("x"),), "none")
    assert dataclasses.replace(spec, intensity="auto").fingerprint != spec.fingerprint
