"""Commands and code of the documentation, as its pages write them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
OPERATORS = {"|", "&&", "||", ";", "&", "(", ")"}
REDIRECTIONS = {"<", ">", ">>"}


class Line(NamedTuple):
    """A line of a shell block: the words of each command in it."""

    page: str
    number: int
    commands: list[list[str]]

    def __str__(self) -> str:
        return f"{self.page}:{self.number}"


def blocks(page: Path, *languages: str) -> list[tuple[int, str]]:
    """The code blocks of these languages, each with the number of its first line."""
    text = page.read_text(encoding="utf-8")
    pattern = rf"^( *)```(?:{'|'.join(languages)})\n(.*?)^\1```$"
    found = re.finditer(pattern, text, re.DOTALL | re.MULTILINE)
    return [(text.count("\n", 0, match.start(2)) + 1, match[2]) for match in found]


def shell_lines(page: Path) -> list[Line]:
    """The lines of the shell blocks of a page that hold commands."""
    lines = []
    for first, block in blocks(page, "sh", "bash", "console"):
        joined = re.sub(r"\\\n", lambda _: "  ", block)
        for number, line in enumerate(joined.splitlines(), first):
            commands: list[list[str]] = [[]]
            lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
            lexer.wordchars += "{}$@:,*[]^!%"
            for word in lexer:
                if word in REDIRECTIONS:
                    next(lexer)  # a file
                elif word in OPERATORS:
                    commands.append([])
                else:
                    commands[-1].append(word)
            if any(commands):
                lines.append(Line(page.name, number, [words for words in commands if words]))
    return lines
