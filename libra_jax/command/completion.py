"""Completion in bash and zsh: stages, flags, fields, the values of a field that has few, and files.

The shells ask `libra --complete WORDS...` at each TAB, the last word being the one under the cursor. The answer is a
line for each word that could stand there, or FILES or FOLDERS, which the shell completes itself. No stage is imported:
fields are read from the syntax of its Config and of the configs in it, so that an answer takes a tenth of a second.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import pathlib
from collections.abc import Iterator, Mapping, Sequence

PACKAGE = pathlib.Path(__file__).parents[1]
FILES, FOLDERS = ":files", ":folders"
FLAGS = ("--workdir=", "--config=", "--dry_run", "--debug", "--help")
ROOT_FLAGS = ("--help", "--version", "--completion=", "--distributed")
SHELLS = ("bash", "zsh")

# COMP_WORDBREAKS splits words at "=" and ":", so the line is taken apart at spaces here, and what bash thinks of as
# the current word is cut off from the answers again.
_BASH = r"""_libra() {
  local line=${COMP_LINE:0:COMP_POINT} current prefix word
  local -a words
  read -r -a words <<<"$line"
  [[ $line != *[[:space:]] ]] || words+=("")
  current=${words[-1]}
  prefix=${current%"${COMP_WORDS[COMP_CWORD]}"}
  [[ ${COMP_WORDS[COMP_CWORD]} != "=" ]] || prefix=$current
  local value=${current##*[=,]} before=""
  [[ $current != *[=,]* ]] || before=${current%"$value"}
  COMPREPLY=()
  while IFS= read -r word; do
    case $word in
      :files) compopt -o filenames; while IFS= read -r word; do COMPREPLY+=("${before#"$prefix"}$word"); done \
        < <(compgen -f -- "$value") ;;
      :folders) compopt -o filenames; while IFS= read -r word; do COMPREPLY+=("${before#"$prefix"}$word"); done \
        < <(compgen -d -- "$value") ;;
      *) COMPREPLY+=("${word#"$prefix"}") ;;
    esac
  done < <("${words[0]}" --complete "${words[@]:1}" 2>/dev/null)
  [[ ${#COMPREPLY[@]} != 1 || ${COMPREPLY[0]} != *[=.] ]] || compopt -o nospace
}
complete -F _libra libra
"""
_ZSH = r"""#compdef libra
_libra() {
  local word
  local -a found
  found=("${(@f)$("${words[1]}" --complete "${(@)words[2,CURRENT]}" 2>/dev/null)}")
  for word in $found; do
    case $word in
      :files) compset -P '*[=,]'; _files ;;
      :folders) compset -P '*[=,]'; _files -/ ;;
      *[=.]) compadd -S '' -- $word ;;
      *) compadd -- $word ;;
    esac
  done
}
compdef _libra libra
"""


def script(shell: str) -> str:
    """What `eval "$(libra --completion SHELL)"` runs. ValueError for a shell that is not known."""
    if shell not in SHELLS:
        raise ValueError(f"--completion={shell}: expected {' or '.join(SHELLS)}; for bash, put "
                         'eval "$(libra --completion bash)" into ~/.bashrc')
    return {"bash": _BASH, "zsh": _ZSH}[shell]


def answers(words: Sequence[str], stages: Sequence[str], folder: pathlib.Path = PACKAGE) -> list[str]:
    """What may stand in place of the last of `words`, the words of a command line behind `libra`."""
    *before, current = words or [""]
    if before[:1] and before[0].partition("=")[0] == "--distributed":
        before = before[1:]
    if not before:
        if current.startswith("--completion="):
            return _begin(current, [f"--completion={each}" for each in SHELLS])
        return _begin(current, [*stages, *(ROOT_FLAGS if current.startswith("-") else ())])
    if before[0] in ("--completion", "completion"):
        return _begin(current, SHELLS)
    if before[0] not in stages:
        return []
    if before[-1] == "--workdir" or current.startswith("--workdir="):
        return [FOLDERS]
    if before[-1] == "--config" or current.startswith("--config="):
        return [FILES]
    every = fields(before[0], folder)
    if before[-1].startswith("--config.") and before[-1].removeprefix("--config.") in every:
        return _values(every[before[-1].removeprefix("--config.")], current, "")
    name, equals, value = current.partition("=")
    if equals:
        field = every.get(name.removeprefix("--config."))
        return _values(field, value, f"{name}=") if field and name.startswith("--config.") else []
    if current.startswith("--config."):
        return _level([f"--config.{each}" for each in every], current)
    if current.startswith("-"):
        return _begin(current, [*FLAGS, "--config."])
    return [*_begin(current, ["compare"] if before == ["bench"] else []), FILES]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Field:
    """What completion knows of a field: the values that it may have, and whether it names files or folders."""

    choices: tuple[str, ...] = ()
    files: str = ""


def fields(stage: str, folder: pathlib.Path = PACKAGE) -> dict[str, Field]:
    """The fields of a stage's Config by dotted path, in their order, read from the source below `folder`."""
    return dict(_fields(f"{PACKAGE.name}.stages.{stage}", "Config", "", folder))


def _begin(current: str, every: Sequence[str]) -> list[str]:
    return [each for each in every if each.startswith(current)]


def _level(every: Sequence[str], current: str) -> list[str]:
    """Of dotted paths those parts that end at the next dot, as file names are completed folder by folder."""
    found = []
    for each in every:
        if each.startswith(current):
            part, dot, _ = each[len(current):].partition(".")
            found.append(current + part + (dot or "="))
    return list(dict.fromkeys(found))


def _values(field: Field, value: str, prefix: str) -> list[str]:
    """Values of a field of which `value` is begun; of several, separated by commas, the last one."""
    if field.files:
        return [field.files]
    whole, comma, last = value.rpartition(",")
    return [f"{prefix}{whole}{comma}{each}" for each in field.choices if each.startswith(last)]


def _fields(module: str, name: str, prefix: str, folder: pathlib.Path) -> Iterator[tuple[str, Field]]:
    home = _home((module, name), folder)
    if home is None:
        return
    source = _source(home[0], folder)
    for each in source.classes[home[1]].body:
        if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name):
            path = prefix + each.target.id
            place = _home(source.find(each.annotation), folder)
            if place:
                yield from _fields(*place, f"{path}.", folder)
            else:
                yield path, _field(source, each.annotation, folder)


def _home(place: tuple[str, str] | None, folder: pathlib.Path) -> tuple[str, str] | None:
    """Where the class is defined that a place (module, name) means, by imports and by `Config = chain.Sizes`."""
    if place is None:
        return None
    module, name = place
    source = _source(module, folder)
    if name in source.classes:
        return place
    return _home(source.find(source.assigned[name]) if name in source.assigned else source.imported.get(name), folder)


def _field(source: _Source, hint: ast.expr, folder: pathlib.Path) -> Field:
    if isinstance(hint, ast.Subscript):
        kind = ast.unparse(hint.value).rpartition(".")[2]
        if kind == "Literal":
            return Field(choices=tuple(str(each) for each in ast.literal_eval(ast.unparse(_tuple(hint.slice)))))
        if kind == "Annotated":
            mark = ast.unparse(hint.slice)
            return Field(files=FOLDERS if "Checkpoint(" in mark else FILES)
        if kind == "tuple":
            return _field(source, _tuple(hint.slice).elts[0], folder)
    if isinstance(hint, ast.Name) and hint.id == "bool":
        return Field(choices=("true", "false"))
    place = source.find(hint)  # a Literal that has a name of its own
    if place:
        other = _source(place[0], folder)
        if place[1] in other.assigned:
            return _field(other, other.assigned[place[1]], folder)
    return Field()


def _tuple(node: ast.expr) -> ast.Tuple:
    return node if isinstance(node, ast.Tuple) else ast.Tuple(elts=[node], ctx=ast.Load())


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Source:
    """The names at the top of a module: its classes, what is assigned, and what is imported from this package."""

    module: str
    classes: Mapping[str, ast.ClassDef]
    assigned: Mapping[str, ast.expr]
    imported: Mapping[str, tuple[str, str]]

    def find(self, node: ast.expr | None) -> tuple[str, str] | None:
        """(module, name) of what an annotation means, if it is of this package."""
        if isinstance(node, ast.Name):
            if node.id in self.classes or node.id in self.assigned:
                return self.module, node.id
            return self.imported.get(node.id)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in self.imported:
            package, name = self.imported[node.value.id]
            return f"{package}.{name}", node.attr
        return None


@functools.cache
def _source(module: str, folder: pathlib.Path) -> _Source:
    file = folder.joinpath(*module.split(".")[1:]).with_suffix(".py")
    body = ast.parse(file.read_text(encoding="utf-8")).body if file.is_file() else []
    imported = {alias.asname or alias.name: (node.module or "", alias.name)
                for node in body if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(PACKAGE.name)
                for alias in node.names}
    assigned = {node.targets[0].id: node.value for node in body
                if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name)}
    return _Source(module=module, classes={node.name: node for node in body if isinstance(node, ast.ClassDef)},
                   assigned=assigned, imported=imported)
