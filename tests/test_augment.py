"""Augmentation: the same seed gives the same pixels anywhere, each switch turns off its own operation and no other."""

from __future__ import annotations

import functools
import math
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from headstart.features.augmentation import OPERATIONS, POLICIES, Augmentation
from headstart.features.errors import UserError
from headstart.features.images.augment import array_augmenter, augmenter, view_seed

SIZE = 32
CHANGING = [policy for policy in POLICIES if policy != "none"]


@functools.lru_cache
def of_arrays(policy: str, without: tuple[str, ...] = ()) -> Any:
    return array_augmenter(Augmentation(policy, without))


def seed_of(number: int) -> np.ndarray:
    return view_seed(Augmentation(), f"{number}", 0)


def seen(policy: str, without: tuple[str, ...], pixels: np.ndarray, number: int) -> np.ndarray:
    return of_arrays(policy, without)(pixels.astype(np.float32), seed_of(number))


def noise(seed: int = 0, height: int = SIZE, width: int = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3)).astype(np.float32)


def ramps() -> np.ndarray:
    """An image that tells where each of its pixels was: x and y, 5 a pixel."""
    y, x = np.mgrid[:SIZE, :SIZE]
    return np.stack([5 * x, 5 * y, 0 * x], axis=-1).astype(np.float32)


def geometry(policy: str, without: tuple[str, ...], number: int) -> dict[str, Any]:
    """How an image was flipped, turned, zoomed and shifted, as its middle tells."""
    where = seen(policy, without, ramps(), number)[SIZE // 2 - 1 : SIZE // 2 + 1, SIZE // 2 - 1 : SIZE // 2 + 1, :2] / 5
    along_x, along_y = where[0, 1] - where[0, 0], where[1, 0] - where[0, 0]
    return {
        "flip": bool(along_x[0] < 0),
        "rotation": math.atan2(along_x[1], along_y[1]),
        "zoom": math.hypot(along_x[1], along_y[1]),
        "shift": tuple(where.mean((0, 1)) - (SIZE - 1) / 2),
    }


NEUTRAL = {"flip": False, "rotation": 0.0, "zoom": 1.0, "shift": (0.0, 0.0)}


@pytest.mark.parametrize("off", ["flip", "rotation", "zoom", "shift"])
@pytest.mark.parametrize("policy", ["light", "standard"])
def test_a_switch_turns_off_its_operation_and_leaves_the_others(policy: str, off: str) -> None:
    for number in range(12):
        every, fewer = geometry(policy, ("colour",), number), geometry(policy, ("colour", off), number)
        for name in NEUTRAL:
            expected = NEUTRAL[name] if name == off else every[name]
            assert fewer[name] == pytest.approx(expected, abs=1e-3), (number, name)


def test_what_standard_does_is_what_it_says() -> None:
    found = [geometry("standard", ("colour",), number) for number in range(200)]
    flips = sum(each["flip"] for each in found)
    assert 70 <= flips <= 130
    for name, most in (("rotation", 0.1 * 2 * math.pi), ("zoom", 0.2)):
        apart = np.array([each[name] for each in found]) - NEUTRAL[name]
        assert np.abs(apart).max() <= most + 1e-3 and apart.max() > 0.9 * most and apart.min() < -0.9 * most, name
    shifts = np.abs([each["shift"] for each in found])
    assert shifts.max() <= 0.1 * SIZE + 1e-3 and (shifts.max(0) > 0.9 * 0.1 * SIZE).all()


def test_light_neither_turns_nor_changes_colours() -> None:
    for number in range(20):
        assert geometry("light", (), number)["rotation"] == pytest.approx(0, abs=1e-4)
        np.testing.assert_allclose(seen("light", (), np.full((SIZE, SIZE, 3), 77), number), 77, atol=1e-3)


@pytest.mark.parametrize("policy", CHANGING)
def test_an_image_keeps_its_left_where_flips_are_off(policy: str) -> None:
    half = np.full((SIZE, SIZE, 3), 255.0)
    half[:, : SIZE // 2] = 0
    still, mirrored = ("rotation", "shift", "colour") if policy == "strong" else ("rotation", "colour"), 0
    for number in range(30):
        off = seen(policy, ("flip", *still), half, number)
        assert off[:, : SIZE // 2].mean() + 100 < off[:, SIZE // 2 :].mean()
        on = seen(policy, still, half, number)
        mirrored += on[:, : SIZE // 2].mean() > on[:, SIZE // 2 :].mean()
    assert 5 <= mirrored <= 25


@pytest.mark.parametrize("policy", POLICIES)
def test_with_everything_off_nothing_changes(policy: str) -> None:
    for number in range(5):
        np.testing.assert_allclose(seen(policy, OPERATIONS, noise(number), number), noise(number), atol=1e-4)


def test_colour_off_keeps_colours_and_everything_else_off_keeps_places() -> None:
    flat = np.full((SIZE, SIZE, 3), (200.0, 100.0, 50.0))
    colours, places = [], []
    for number in range(8):
        np.testing.assert_allclose(seen("standard", ("colour",), flat, number), flat, atol=1e-3)
        changed = seen("standard", ("flip", "rotation", "zoom", "shift"), flat, number)
        assert np.ptp(changed, axis=(0, 1)).max() < 1e-3
        colours.append(changed[0, 0])
        step = np.where(np.arange(SIZE)[None, :, None] < SIZE // 2, 60.0, 180.0) * np.ones((SIZE, SIZE, 3))
        places.append(seen("standard", ("flip", "rotation", "zoom", "shift"), step, number))
    assert np.std(colours, axis=0).min() > 2
    for changed in places:
        assert np.ptp(changed[:, : SIZE // 2]) < 1e-3 and np.ptp(changed[:, SIZE // 2 :]) < 1e-3


@pytest.mark.slow
@pytest.mark.parametrize("off", [("rotation",), ("shift",), ("colour",), ("rotation", "shift", "colour"), ("flip", "zoom")])
def test_strong_without_some_of_it(off: tuple[str, ...]) -> None:
    flat = np.full((SIZE, SIZE, 3), (200.0, 100.0, 50.0))
    answers = [seen("strong", off, noise(), number) for number in range(6)]
    assert all(np.abs(answer - noise()).max() > 1 for answer in answers)
    if "colour" in off:
        for number in range(6):
            np.testing.assert_allclose(seen("strong", off, flat, number), flat, atol=1e-2)
    if {"rotation", "shift", "colour"} <= set(off):
        for number in range(6):
            assert geometry("strong", off, number)["rotation"] == pytest.approx(0, abs=1e-3)


def test_strong_differs_between_seeds() -> None:
    answers = [seen("strong", (), noise(), number) for number in range(10)]
    assert all(np.abs(a - b).max() > 1 for row, a in enumerate(answers) for b in answers[:row])


@pytest.mark.slow
@pytest.mark.parametrize("policy", CHANGING)
def test_the_same_seed_gives_the_same_pixels_in_any_way(policy: str) -> None:
    augment, seeds = augmenter(Augmentation(policy)), np.stack([seed_of(number) for number in range(16)])
    eager = [augment(tf.constant(noise(n)), tf.constant(seeds[n])).numpy() for n in range(6)]
    again = [augment(tf.constant(noise(n)), tf.constant(seeds[n])).numpy() for n in reversed(range(6))][::-1]
    np.testing.assert_array_equal(eager, again)
    images = np.stack([noise(n) for n in range(16)])
    pipelines = [
        tf.data.Dataset.from_tensor_slices((images[order], seeds[order])).map(
            augment, num_parallel_calls=4, deterministic=True
        )
        for order in (np.arange(16), np.arange(16)[::-1])
    ]
    forward, backward = (np.stack(list(pipeline.as_numpy_iterator())) for pipeline in pipelines)
    np.testing.assert_array_equal(forward, backward[::-1])
    np.testing.assert_allclose(forward[:6], eager, atol=1e-2)
    with ThreadPoolExecutor(4) as pool:
        by_arrays = list(pool.map(of_arrays(policy), images, seeds))
    np.testing.assert_allclose(by_arrays, forward, atol=1e-2)


@pytest.mark.parametrize("policy", CHANGING)
def test_another_seed_digest_or_look_gives_other_pixels(policy: str) -> None:
    seeds = [
        view_seed(Augmentation(policy, seed=seed), digest, draw)
        for seed, digest, draw in ((0, "a", 0), (1, "a", 0), (0, "b", 0), (0, "a", 1))
    ]
    answers = [of_arrays(policy)(noise(), seed) for seed in seeds]
    assert all(np.abs(a - b).max() > 1 for row, a in enumerate(answers) for b in answers[:row])
    np.testing.assert_array_equal(view_seed(Augmentation(policy), "a", 0), seeds[0])
    assert seeds[0].dtype == np.int64 and seeds[0].shape == (2,)


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(
    policy=st.sampled_from(POLICIES),
    without=st.sampled_from([(), ("flip",), ("rotation", "colour"), ("zoom", "shift")]),
    height=st.integers(8, 40),
    width=st.integers(8, 40),
    kind=st.sampled_from(["noise", "black", "white", "extreme"]),
    seed=st.tuples(st.integers(-(2**63), 2**63 - 1), st.integers(-(2**63), 2**63 - 1)),
)
def test_pixels_stay_pixels(
    policy: str, without: tuple[str, ...], height: int, width: int, kind: str, seed: tuple[int, int]
) -> None:
    pixels = noise(height * width, height, width)
    pixels = {"noise": pixels, "black": 0 * pixels, "white": 0 * pixels + 255, "extreme": 255 * np.round(pixels / 255)}[kind]
    answer = of_arrays(policy, without)(pixels, np.array(seed, np.int64))
    assert answer.shape == pixels.shape and answer.dtype == np.float32
    assert np.isfinite(answer).all() and answer.min() >= 0 and answer.max() <= 255


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"policy": "stong"}, "--augment is one of none, light, standard, strong, not 'stong'"),
        ({"policy": "light", "without": ("flips",)}, "has the operations flip, rotation, zoom, shift, colour, not flips"),
    ],
)
def test_what_there_is_not_is_refused(arguments: dict[str, Any], told: str) -> None:
    with pytest.raises(UserError, match=told) as caught:
        Augmentation(**arguments)
    assert "\n" not in str(caught.value)
