"""Look up the versions of constraints.txt in OSV, the public database of vulnerabilities: `make audit`.

    python .ci/audit.py pip-audit

The arguments are the command that runs pip-audit. Exit status: 0 if no vulnerability is known, 1 if there are some,
which are listed, 3 if it could not be found out. PyPI's own data is not asked: where a mirror does not have it,
pip-audit passes over every package and reports that there are no vulnerabilities.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CLEAN, VULNERABLE, UNKNOWN = 0, 1, 3


def judge(report: str) -> tuple[int, list[str]]:
    """Return the exit status and the lines to print.

    Args:
        report: what `pip-audit --format json` printed; anything else if it failed.
    """
    try:
        packages = json.loads(report)["dependencies"]
    except (ValueError, KeyError, TypeError):
        return UNKNOWN, ["pip-audit has not looked up the packages"]
    skipped = [f"{each['name']}: not looked up: {each['skip_reason']}" for each in packages if "skip_reason" in each]
    found = [
        f"{each['name']} {each['version']}: {one['id']}, fixed in {', '.join(one['fix_versions']) or 'no version'}"
        for each in packages
        for one in each.get("vulns", [])
    ]
    if found:
        return VULNERABLE, found + skipped
    if skipped or not packages:
        return UNKNOWN, skipped or ["pip-audit has looked up no package"]
    return CLEAN, [f"{len(packages)} packages: no known vulnerability"]


def main() -> int:
    """Run pip-audit, print what it found and return the exit status."""
    options = ["--no-deps", "--disable-pip", "--vulnerability-service", "osv", "--format", "json", "--desc", "off"]
    command = [*sys.argv[1:], "-r", str(ROOT / "constraints.txt"), *options, "--progress-spinner", "off"]
    done = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    status, lines = judge(done.stdout)
    print("\n".join(lines))
    if status == UNKNOWN:
        reason = done.stderr.strip().splitlines()[-1:]
        print("NOT AUDITED:", *reason, file=sys.stderr)
        print("pip-audit comes from PyPI and asks api.osv.dev: run it where both can be reached.", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
