"""README.md and docs/ as the tests read them: the code blocks of a page, what each is, and the commands in it.

A block is indented by four spaces or fenced. What it is:

- a *console* block begins with `$ ` or with a program of PROGRAMS. Where a line begins with `$ `, such lines are the
  commands, and what follows each is what it prints; otherwise every line is a command. Lines that end in a backslash,
  or within quotes, go on.
- a *file* has a comment above it, `<!-- file: NAME -->`.
- else it is Python, data, a picture in letters, or output alone. A line that looks like a command is an error there.

A comment above a console or Python block may say `<!-- needs: WHAT -->` (NEEDS): then it is not run, but parsed like
the commands of pages that are not run; or `<!-- numbers differ -->`: of what it prints only the words are compared.
"""

import dataclasses
import pathlib
import re
import shlex

ROOT = pathlib.Path(__file__).parents[2]
HOWTOS = sorted((ROOT / "docs/howto").glob("*.md"))  # the pages whose blocks are run, one after the other
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]

# Every program that a page may call; readme_test.py says how each is checked.
PROGRAMS = ("libra", "launch/local.sh", "launch/pipeline.sh", "launch/tpu_vm.sh", "python", "pytest", "pip", "export",
            "curl", "zensical", "gcloud", "xpk")
NEEDS = ("a TPU", "a GPU", "the network", "minutes", "your own files")

_COMMENT = re.compile(r"<!-- (file|needs): ([^>]+?) -->|<!-- (numbers differ) -->")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Command:
    """A command's text, continued lines joined, and what the page shows that it prints ("" where nothing)."""

    text: str
    shown: str = ""

    @property
    def words(self) -> list[str]:
        return shlex.split(self.text, comments=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Block:
    """A code block: its text without indentation or fences, its line in the page, its language and its comments."""

    page: pathlib.Path
    line: int
    text: str
    language: str = ""
    notes: tuple[tuple[str, str], ...] = ()

    def note(self, kind: str) -> str:
        return dict(self.notes).get(kind, "")

    @property
    def is_console(self) -> bool:
        return not self.note("file") and (self.text.startswith("$ ") or self.text.split(maxsplit=1)[0] in PROGRAMS)

    @property
    def is_python(self) -> bool:
        return not self.note("file") and not self.is_console and bool(
            self.language == "python" or re.match(r"(from|import) \w", self.text))

    @property
    def commands(self) -> list[Command]:
        return commands(self.text) if self.is_console else []

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(page: pathlib.Path, text: str | None = None) -> list[Block]:
    """All code blocks of a page, in order."""
    lines = (page.read_text(encoding="utf-8") if text is None else text).split("\n")
    found, notes, place = [], [], 0
    while place < len(lines):
        line = lines[place]
        start, language, body = place, "", []
        if line.startswith("```"):
            language = line[3:].strip()
            place += 1
            while not lines[place].startswith("```"):
                body.append(lines[place])
                place += 1
            place += 1
        elif line.startswith("    ") and not (place and re.match(r" *([-*]|\d+\.) ", _last_text(lines, place))):
            while place < len(lines) and (lines[place].startswith("    ") or not lines[place].strip()):
                body.append(lines[place][4:])
                place += 1
        else:
            place += 1
            comment = _COMMENT.fullmatch(line.strip())
            if comment:
                notes.append((comment[1] or comment[3], comment[2] or "yes"))
            elif line.strip():
                notes = []
            continue
        found.append(Block(page=page, line=start + 1, text="\n".join(body).strip("\n"), language=language,
                           notes=tuple(notes)))
        notes = []
    return found


def _last_text(lines: list[str], place: int) -> str:
    """The start of the paragraph or list item that an indented line may belong to: the last line at the margin."""
    for line in reversed(lines[:place]):
        if line.strip() and not line.startswith(" "):
            return line
    return ""


def commands(text: str) -> list[Command]:
    """The commands of a console block."""
    prompt = any(line.startswith("$ ") for line in text.split("\n"))
    found, shown, lines = [], [], text.split("\n")
    while lines:
        line = lines.pop(0)
        if prompt and not line.startswith("$ "):
            shown.append(line)
            continue
        if not prompt and not line.strip():
            continue
        if found:
            found[-1] = dataclasses.replace(found[-1], shown="\n".join(shown).strip("\n"))
        shown, line = [], line.removeprefix("$ ")
        while lines and _goes_on(line):
            more = lines.pop(0)
            line = f"{line[:-1].rstrip()} {more.lstrip()}" if line.endswith("\\") else f"{line}\n{more}"
        found.append(Command(text=line))
    if found:
        found[-1] = dataclasses.replace(found[-1], shown="\n".join(shown).strip("\n"))
    return found


def _goes_on(line: str) -> bool:
    if line.endswith("\\"):
        return True
    try:
        shlex.split(line, comments=True)
    except ValueError:  # an open quote
        return True
    return False


def anchors(text: str) -> set[str]:
    """The anchors of a page's headings, as GitHub and the site make them."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    found: set[str] = set()
    for title in re.findall(r"^#+ (.+)$", prose, re.MULTILINE):
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)|[`*]", lambda match: match[1] or "", title).strip().lower()
        found.add(re.sub(r"[^\w -]", "", plain).replace(" ", "-"))
    return found


def inline(text: str) -> list[str]:
    """The code within a page's prose, `like this`, spans broken over two lines joined."""
    prose = re.sub(r"^```.*?^```$|^    [^\n]*$", "", text, flags=re.MULTILINE | re.DOTALL)
    return [" ".join(span.split()) for span in re.findall(r"(?<!`)`([^`]+)`(?!`)", prose)]
