"""What the zygote loads before it forks guests: everything user code and the guest itself may import."""

import importlib
import platform

from sandboxd.policy import ALLOWED_MODULES


def warm_up() -> dict[str, str]:
    """Imports and exercises; returns the versions of Python and of the packages. Leaves no thread."""
    for name in ALLOWED_MODULES:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
    import aiohttp
    import numpy
    import pandas
    import requests

    return {
        "python": platform.python_version(),
        **{module.__name__: str(module.__version__) for module in (numpy, pandas, requests, aiohttp)},
    }
