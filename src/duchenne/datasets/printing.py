"""Prints the result of ``duchenne check`` on a terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from duchenne.errors import printable

_NAMES = 10  # number of file names shown of each kind; --json has all
_SIGNS = {"ok": "", "differs": "[red]differs[/red]", "about": "about", "other list": "[yellow]other list[/yellow]"}


def print_audit(result: dict[str, Any], problems: list[str], console: Console, unit: str = "row") -> None:
    """Print the result of :func:`duchenne.datasets.audit.audit`.

    Args:
        problems: the wrong rows, as text from :func:`duchenne.datasets.problems.lines`.
        unit: unit of a row's number, for messages.
    """
    _line(console, f"{result['dataset']} in {result['root']}")
    for sentence in result["recognised"]:
        _line(console, f"  recognised: {sentence}")
    if result["comparisons"]:
        _line(console, f"  compared with: {result['source of the counts']}")
    if result["comparisons"]:
        console.print(_comparisons(result))
    if not any(
        item["what"] == "samples" for item in result["comparisons"]
    ):  # only the lists can be compared, or nothing
        console.print(_counts(result))
    if empty := [name for name, n in result["classes"].items() if not n]:
        _line(console, f"warning: no sample of {', '.join(empty)}: remove from classes what the dataset does not have")
    for what, n in result["left out"].items():
        _line(console, f"left out: {n} x {what}")
    for title in ("missing frames", "files no list names"):
        _names(console, title, result[title])
    for oddity in result["oddities"]:
        row = "" if oddity["row"] is None else f"{unit} {oddity['row']}: "
        _line(console, f"oddity: {row}{oddity['path']}: {oddity['column']} {oddity['oddity']} -> {oddity['done']}")
    if problems:
        _line(console, f"problems: {sum(result['problems'].values())}")
        for line in problems:
            _line(console, line)
    verdicts = {item["verdict"] for item in result["comparisons"]}
    word = "complete" if result["complete"] else "NOT COMPLETE"
    if result["complete"] and not verdicts:
        word = "no problems (nothing is published to compare with)"
    elif result["complete"] and verdicts <= {"ok", "about"} and "about" in verdicts:
        word = "no problems (how many samples there should be is known only roughly)"
    _line(console, f"{result['dataset']}: {word}")


def _comparisons(result: dict[str, Any]) -> Table:
    """Table of the totals and of those counts below them (class, subject, factor) that differ."""
    table = Table("what", "found", "expected", "")
    for item in result["comparisons"]:
        if _total(item["what"], result["classes"]) or item["verdict"] != "ok":
            sign = _SIGNS[item["verdict"]]
            table.add_row(escape(item["what"]), str(item["found"]), str(item["expected"]), sign)
    return table


def _total(what: str, classes: dict[str, int]) -> bool:
    return what in classes or not (what.split()[-1] in classes or "/" in what or ": " in what)


def _counts(result: dict[str, Any]) -> Table:
    table = Table("what", "found")
    table.add_row("samples", str(result["samples"]))
    for name, n in result["classes"].items():
        table.add_row(name, str(n))
    for part, classes in result["parts"].items():
        table.add_row(part, str(sum(classes.values())))
    for fold, n in result["folds"].items():
        table.add_row(f"fold {fold} test", str(n))
    table.add_row("subjects", str(result["subjects"]))
    if result["subjects"] and result["without subject"]:
        table.add_row("without subject", str(result["without subject"]))
    return table


def _names(console: Console, title: str, names: list[str]) -> None:
    if names:
        more = f" ... and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
        _line(console, f"{title}: {len(names)}: {', '.join(names[:_NAMES])}{more}")


def _line(console: Console, text: str) -> None:
    """Print a line without markup and line breaks, because names of files may contain what looks like markup."""
    console.print(printable(text), markup=False, highlight=False, soft_wrap=True)
