"""What is done to training images: a policy, which of its operations are switched off, and a seed. Standard library only.

Sources: the amounts of `standard` are those of https://keras.io/guides/transfer_learning and of Chollet, Deep Learning with
Python; `strong` is RandAugment, https://arxiv.org/abs/1909.13719, with Keras's own layers.
"""

from __future__ import annotations

from dataclasses import dataclass

from headstart.features.errors import UserError

POLICIES = ("none", "light", "standard", "strong")
OPERATIONS = ("flip", "rotation", "zoom", "shift", "colour")
AMOUNTS = {  # rotation in turns, zoom and shift in shares of a side, colour in shares of what is there; each to both sides
    "light": {"flip": 1.0, "zoom": 0.1, "shift": 0.05},
    "standard": {"flip": 1.0, "rotation": 0.1, "zoom": 0.2, "shift": 0.1, "colour": 0.2},
    "strong": {"flip": 1.0, "zoom": 0.2},
}


@dataclass(frozen=True)
class Augmentation:
    """A policy of `POLICIES`, those of its operations that are switched off, and the seed of it all."""

    policy: str = "none"
    without: tuple[str, ...] = ()
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "without", tuple(self.without))
        if self.policy not in POLICIES:
            raise UserError("bad-flag", f"--augment is one of {', '.join(POLICIES)}, not {self.policy!r}")
        if unknown := set(self.without) - set(OPERATIONS):
            raise UserError(
                "bad-flag", f"augmentation has the operations {', '.join(OPERATIONS)}, not {', '.join(sorted(unknown))}"
            )

    def amount(self, operation: str) -> float:
        """How much of an operation the policy has; 0 where it has none, or it is switched off."""
        return 0.0 if operation in self.without else AMOUNTS.get(self.policy, {}).get(operation, 0.0)


NOTHING = Augmentation()
