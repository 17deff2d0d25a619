"""Beam's own flags, which a command that runs a pipeline takes beside its own."""

from __future__ import annotations

import argparse
import importlib.util
import os
import re

from headstart.features.command_line import OtherFlags
from headstart.features.runtime import silence_library_logs


class BeamFlags(OtherFlags):
    """Every option of Beam's."""

    def names(self) -> set[str]:
        """What Beam's source spells out as a flag, and perhaps a few more: Beam takes a second to import."""
        found = importlib.util.find_spec("apache_beam")
        folder = found.submodule_search_locations[0] if found and found.submodule_search_locations else ""
        with open(os.path.join(folder, "options", "pipeline_options.py"), encoding="utf-8") as source:
            return set(re.findall(r"""["'](--\w+)["']""", source.read()))

    def parser(self) -> argparse.ArgumentParser:
        """Beam's own."""
        silence_library_logs()
        from apache_beam.options import pipeline_options

        parser = pipeline_options._BeamArgumentParser(allow_abbrev=False, add_help=False)
        for options in pipeline_options.PipelineOptions.__subclasses__():
            options._add_argparse_args(parser)
        return parser
