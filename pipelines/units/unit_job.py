"""What all work units of a job share, whatever they write: where they work, under which claim, and how much they may lose."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from headstart.features.dataset.dead_letter import DeadLetter
from headstart.features.places import place
from headstart.features.store.manifest import WORK_FOLDER


class UnitJob(ABC):
    """A job of work units; a subclass, small enough to travel with each of them, says what they are done with.

    store is the absolute path of the folder that the job makes, generation the name of what it makes there, token that of the
    claim under which all of it is done. Labels are indices into class_names, and label_delimiter joins those of one image;
    max_dead is how many images may be lost.
    """

    store: str
    generation: str
    token: str
    class_names: tuple[str, ...]
    max_dead: int
    label_delimiter: str = ""

    @property
    @abstractmethod
    def folder(self) -> str:
        """Where the units' files go."""

    @property
    def work_folders(self) -> str:
        """Where the starts of this job have their work folders."""
        return place.join(self.store, WORK_FOLDER, self.generation)

    @property
    def work(self) -> str:
        """Where units, heartbeats and markers of this start lie: what a worker of an earlier one still writes is not read."""
        return place.join(self.work_folders, self.token)

    def too_many_dead(self, letters: Sequence[DeadLetter]) -> str:
        """Why the job has to stop, when more images failed than may; '' otherwise."""
        if len(letters) <= self.max_dead:
            return ""
        first = "; ".join(f"{letter.key} ({letter.stage}: {letter.reason})" for letter in letters[:3])
        return (
            f"{len(letters)} images can't be read, more than the {self.max_dead} that --max_bad_fraction allows. The first: "
            f"{first}. Fix or remove them, or raise --max_bad_fraction; what is done so far is kept"
        )
