"""Optional packages: imported where they are used, and named with the command that installs them."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from mmretrieve.errors import MissingExtraError


def require(module: str, extra: str) -> Any:
    """The module ``module``, which the extra ``extra`` brings.

    Raises:
        MissingExtraError: it is not installed, or does not run here; the message has the command.
    """
    try:
        return import_module(module)
    except (ImportError, RuntimeError) as error:
        raise MissingExtraError(
            f'{module} cannot be imported ({error}): pip install "mmretrieve[{extra}]"'
        ) from error
