"""All checks of a project: :mod:`.files` needs DVC, :mod:`.results` does not."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy

from duchenne.config import Catalog
from duchenne.errors import UserError, nearest
from duchenne.extras import how_to_install, installed
from duchenne.verification.findings import Checked
from duchenne.verification.results import verify_run
from duchenne.verification.transfers import verify_transfers
from duchenne.workspace import Workspace


def verify(catalog: Catalog, workspace: Workspace, names: Sequence[str] = (), allow_missing: bool = False) -> Checked:
    """Check a project, or some runs with all that they were made from.

    Args:
        names: variants, or ``published/VARIANT``; empty: every run and every file of the project.
        allow_missing: data and outputs that are not on this machine are skipped, not wrong.

    Raises:
        UserError: There is no such run, or DVC cannot read the project.
    """
    published = [f"published/{path.parent.name}" for path in workspace.results("published").glob("*/metrics.json")]
    known = [*catalog.variants, *sorted(published)]
    for name in names:
        if name not in known:
            hint = nearest(name, known) or f" (there are {', '.join(known)})"
            raise UserError(f"there is no run {name!r}{hint}")
    done = Checked()
    variants = [name for name in names if name in catalog.variants]
    if names and not variants:
        done.skipped.append("files: `duchenne evaluate` wrote the results, and DVC does not know them")
    elif not installed("dvc"):
        done.skipped.append(f"files: DVC is not installed ({how_to_install('pipeline')})")
    else:
        from duchenne.verification.files import verify_files

        done.add(verify_files(workspace.root, variants, allow_missing))
    files = deepcopy(done)
    for name in names or known:
        catalog = catalog.with_library("variants", name.removeprefix("published/"))
        done.add(verify_run(catalog, workspace, name, allow_missing, files))
    done.add(verify_transfers(catalog, workspace, names, files))
    return done
