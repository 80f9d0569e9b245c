"""Defaults of an experiment file that the report must know too: it reads the file as the user wrote it.

The rest of the defaults stand in `taskdiv_assets.experiment`, which takes these from here. Nothing is imported.
"""

from typing import Final, Literal

PURPOSE: Final[Literal["campaign"]] = "campaign"
SEEDS: Final = (0, 1, 2)  # three: the fewest from which an interval over seeds says something
