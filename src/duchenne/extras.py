"""Optional packages, installed by the extras of ``pyproject.toml``.

The core (networks, training, evaluation, prediction) does not need them. Code that uses one checks for it here before
any work, so that a missing package gives one message with the command that installs it.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from duchenne.errors import UserError

EXTRAS: dict[str, dict[str, str]] = {
    "pipeline": {"dvc": "dvc", "mlflow": "mlflow", "starlette": "starlette", "uvicorn": "uvicorn"},
    "report": {"jinja2": "Jinja2", "markupsafe": "MarkupSafe", "matplotlib": "matplotlib", "openTSNE": "openTSNE"},
    "synth": {"anny": "anny", "warp": "warp-lang"},
    "studio": {"starlette": "starlette", "uvicorn": "uvicorn", "matplotlib": "matplotlib", "markupsafe": "MarkupSafe"},
    "dlib": {"dlib": "dlib-bin", "face_recognition_models": "face_recognition_models"},
    "s3": {"dvc_s3": "dvc-s3"},
    "ray": {"ray": "ray"},
    "dask": {"distributed": "distributed"},
    "export": {"onnxruntime": "onnxruntime", "onnxscript": "onnxscript"},
}
"""Extra -> module, as Python imports it -> package, as pip installs it."""


class MissingExtraError(UserError, ImportError):
    """Raised when a function needs a package that is not installed."""


def installed(module: str) -> bool:
    """Whether a module can be imported; it is not imported, because ``import mlflow`` takes seconds."""
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        return False


def require_extra(what: str, extra: str, *modules: str, otherwise: str = "") -> None:
    """Check that the modules of an extra are installed.

    Args:
        what: subject of the message: what needs the modules.
        modules: required modules of the extra; default: all.
        otherwise: end of the message: what to do instead of installing them.

    Raises:
        MissingExtraError: A module is not installed.
    """
    packages = [EXTRAS[extra][module] for module in modules or EXTRAS[extra] if not installed(module)]
    if packages:
        *first, last = packages
        listed = f"{', '.join(first)} and {last}" if first else last
        instead = f"; {otherwise}" if otherwise else ""
        raise MissingExtraError(f"{what} needs {listed}: {how_to_install(extra)}{instead}")


def how_to_install(extra: str) -> str:
    """Return the command that installs an extra."""
    return f"pip install 'duchenne[{extra}]'"


def requirements(*modules: str) -> list[str]:
    """List the requirements of the core and of modules of extras, as ``name>=version,<version``."""
    wanted = {canonicalize_name(package) for extra in EXTRAS.values() for module, package in extra.items()
              if module in modules}  # fmt: skip
    found = []
    for requirement in map(Requirement, importlib.metadata.requires("duchenne") or []):
        names = ["", *EXTRAS] if canonicalize_name(requirement.name) in wanted else [""]
        if requirement.marker is None or any(requirement.marker.evaluate({"extra": name}) for name in names):
            requirement.marker = None  # it names the extra; its conditions on the platform are met
            found.append(str(requirement))
    return found
