"""Names and folders of variants. A variant repeats an experiment's primary comparison with another setting (`robustness`).

The name of a variant in the graph, such as `demo_VARIANT_half_rate`, has capital letters, which names in experiment files do not
have. So it differs from the name of every experiment. Dagster accepts it as a name of groups and jobs.
"""

import re
from typing import Final

from data_contracts.experiment_fields import NAME_PATTERN

MARK: Final = "_VARIANT_"
FOLDER: Final = "variants"  # folder in the experiment's folder, with one folder for each variant
GRAPH_NAME_LENGTH_MAX: Final = 63  # the limit of a Dagster tag


def graph_name(experiment: str, variant: str) -> str:
    """Return the name of a variant in the graph.

    >>> graph_name("demo", "half_rate")
    'demo_VARIANT_half_rate'
    """
    return f"{experiment}{MARK}{variant}"


def split_name(name: str) -> tuple[str, str]:
    """Return the names of the experiment and of the variant; the second is empty for an experiment and for an invalid name.

    >>> split_name("demo_VARIANT_half_rate"), split_name("demo"), split_name("demo_VARIANT_..")
    (('demo', 'half_rate'), ('demo', ''), ('demo_VARIANT_..', ''))
    """
    experiment, _, variant = name.partition(MARK)
    is_variant = re.fullmatch(NAME_PATTERN, experiment) and re.fullmatch(NAME_PATTERN, variant)
    return (experiment, variant) if is_variant else (name, "")


def folder_of(name: str) -> str:
    """Return the folder of an experiment or of a variant, relative to the home.

    >>> folder_of("demo_VARIANT_half_rate"), folder_of("demo")
    ('demo/variants/half_rate', 'demo')
    """
    experiment, variant = split_name(name)
    return f"{experiment}/{FOLDER}/{variant}" if variant else experiment
