"""python -m headstart"""

from headstart.cli import script

script()
