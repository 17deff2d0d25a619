"""Commands that are killed, interrupted, started twice and left without a disk, again and again: `python -m tests.soak`."""
