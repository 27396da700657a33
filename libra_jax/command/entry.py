"""The main of a stage: flags in, an exit status out; between them the lock and log of its folder, and its errors."""

from __future__ import annotations

import difflib
import pathlib
import shlex
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from typing import Any

from absl import flags, logging

from libra_jax import config as configs
from libra_jax import records
from libra_jax.command import dry, errors, log, page, written

# The exit statuses; docs/command_line.md tells them.
DONE, BUG, MISTAKE, INTERRUPTED, TERMINATED = 0, 1, 2, 130, 143
HELP = ("--help", "-h", "--helpfull", "--helpshort")


def main(run: Callable[[Any, pathlib.Path], Any], default: Any, argv: Sequence[str] | None = None, *,
         check: Callable[[Any], None] | None = None, writes: dry.Writes = (), look: dry.Look | None = None) -> int:
    """Parses the flags of a stage and calls run(config, workdir); --help and --dry_run call nothing.

    `check(config)` raises ValueError for settings that `run` would refuse, `writes` are the names of what it makes in
    its workdir, and `look(config)` says more of the inputs for --dry_run (command/dry.py).
    The status is DONE; MISTAKE for what the user can mend, told in one line, with a traceback where --debug is given;
    BUG for any other exception, with its traceback; INTERRUPTED or TERMINATED by a signal. A reader of the output that
    goes away is a BrokenPipeError, which stages/cli.py ends quietly. The workdir has log.txt (command/log.py), and
    run_config.json: the config of the first run there and then of the last that succeeded.
    """
    argv = list(sys.argv if argv is None else argv)
    name = _name(run.__module__)
    if set(HELP) & set(argv[1:]):
        print(page.text(name, sys.modules[run.__module__].__doc__ or "", default))
        return DONE
    try:
        config, rest = configs.parse(argv[1:], default)
        values = _flags(argv[0], rest, config)
    except (configs.ConfigError, flags.Error) as error:
        print(f"error: {error}", file=sys.stderr)
        return MISTAKE
    logging.set_verbosity(logging.WARNING)  # stages report their own progress
    workdir = pathlib.Path(values.workdir)
    command = shlex.join(["libra", name, *argv[1:]])
    if values.dry_run:
        return _dry(config, workdir, command, dry.Stage(name=name, check=check, writes=writes, look=look), values.debug)
    start = time.time()
    try:
        with log.kept(workdir, command):
            status = _guarded(run, config, workdir, values.debug)
            if status == DONE and log.process() == 0:
                written.tell(name, workdir, start)
            log.note(f"ended with status {status} after {time.time() - start:.1f} s")
            return status
    except BrokenPipeError:
        raise
    except (ValueError, OSError) as error:  # the folder itself, or who else is in it
        print(f"error: {errors.told(error, config, workdir)}", file=sys.stderr)
        return MISTAKE


def _flags(program: str, rest: Sequence[str], config: Any) -> flags.FlagValues:
    """The flags beside the config's. ConfigError or flags.Error for those that are none."""
    values = flags.FlagValues()
    flags.DEFINE_string("workdir", "", "Where results go; a stage that was killed goes on from what lies here.",
                        flag_values=values)
    flags.DEFINE_bool("dry_run", False, "Look at everything, write nothing.", flag_values=values)
    flags.DEFINE_bool("debug", False, "Show tracebacks of errors.", flag_values=values)
    for word in rest:
        field, equals, _ = word.removeprefix("--").partition("=")
        if word.startswith("--") and field in configs.field_paths(config):
            raise configs.ConfigError(f"{word.partition('=')[0]} is a field; give it as --config.{field}"
                                      f"{'=VALUE' if not equals else '=' + word.partition('=')[2]}")
    try:
        left = values([program, *rest])
    except flags.UnrecognizedFlagError as error:
        near = difflib.get_close_matches(error.flagname, ("workdir", "config", "dry_run", "debug", "help"), 1, 0)
        raise configs.ConfigError(f"--{error.flagname}: there is no such flag; the nearest is --{near[0]}; fields are "
                                  "given as --config.name=value") from None
    if left[1:]:
        raise configs.ConfigError(f"unexpected argument {left[1]!r}; fields are given as --config.name=value")
    if not values.workdir:
        raise configs.ConfigError("--workdir is needed: a folder for the results; --help explains the stage")
    return values


def _guarded(run: Callable, config: Any, workdir: pathlib.Path, debug: bool) -> int:
    """Runs the stage; the exit status of how it ended, which is told."""
    note = workdir / "run_config.json"
    try:
        if not note.exists():
            _write(note, config)
        run(config, workdir)
        _write(note, config)
        return DONE
    except KeyboardInterrupt:
        print("stopped by Ctrl-C; run the same command to go on", file=sys.stderr)
        return INTERRUPTED
    except SystemExit as stop:
        if stop.code != TERMINATED:
            raise
        return TERMINATED  # training has saved, and said so
    except BrokenPipeError:
        log.note(traceback.format_exc())
        raise
    except Exception as error:
        return _failed(error, config, debug)


def _write(note: pathlib.Path, config: Any) -> None:
    if log.process() == 0:  # the hosts of a run share the folder
        records.write_text(note, configs.to_json(config) + "\n")


def _failed(error: Exception, config: Any, debug: bool) -> int:
    mistake = errors.is_mistake(error)
    if mistake and not debug:
        log.note(traceback.format_exc())
        print(f"error: {errors.told(error, config)}", file=sys.stderr)
        return MISTAKE
    traceback.print_exc()
    if mistake:
        return MISTAKE
    where = log.place()
    print("error: this is a bug, of libra_jax or of what it stands on"
          + f"; the traceback above is in {where} too" * bool(where), file=sys.stderr)
    return BUG


def _dry(config: Any, workdir: pathlib.Path, command: str, stage: dry.Stage, debug: bool) -> int:
    try:
        print("\n".join(dry.lines(config, workdir, command, stage)))
        return DONE
    except Exception as error:
        mistake = errors.is_mistake(error)
        if debug or not mistake:
            traceback.print_exc()
        if mistake:
            print(f"error: {errors.told(error, config)}\nnothing was written", file=sys.stderr)
        return MISTAKE if mistake else BUG


def _name(module: str) -> str:
    """The stage's name by its module, which is "__main__" under `python -m`."""
    return pathlib.Path(sys.modules[module].__file__ or "").stem if module == "__main__" else module.rpartition(".")[2]
