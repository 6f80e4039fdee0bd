"""The environment in which notebooks are executed and compared, the same everywhere."""

import os
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

PROXIES = ("http_proxy", "https_proxy", "all_proxy", "ftp_proxy")
FOREIGN = {"MPLBACKEND", "PYTHONPATH", "COURSE_PROGRESS", "GOING_MODULAR_DEVICE"}


def neutral(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Return an environment without what would change how notebooks run.

    Gone are a backend of matplotlib, folders of modules, proxies, and somebody's
    results and device. A matplotlibrc of the user gives way to matplotlib's own.
    """
    kept = {
        name: value
        for name, value in environment.items()
        if name not in FOREIGN and name.lower() not in PROXIES
    }
    found = find_spec("matplotlib")
    if found and found.origin:
        settings = Path(found.origin).parent / "mpl-data" / "matplotlibrc"
        kept["MATPLOTLIBRC"] = str(settings)
    return kept
