"""The `libra` command: fast help, lazy stages, names put right."""

import re
import subprocess
import sys

import pytest

from libra_jax.stages import cli


def test_help_lists_every_stage_fast_and_imports_nothing_heavy():
    code = ("import sys, time; from libra_jax.stages import cli; cli.main(['libra', '--help']); "
            "print(sorted({'jax', 'numpy', 'absl', 'tensorflow', 'seqio', 'matplotlib'} & set(sys.modules)), "
            "time.process_time())")
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    modules, seconds = out.splitlines()[-1].rsplit(" ", 1)
    assert modules == "[]" and float(seconds) < 0.5
    for stage in ("bench", "curate", "judge", "rollout", "verify", "reject", "sft", "rl", "dpo", "convert"):
        assert f"  {stage} " in out


def test_every_stage_says_what_it_does_in_one_line():
    for name, line in cli.stages().items():
        assert 20 <= len(line) and line[0].isupper() and line.rstrip().endswith((".", "`.")), (name, line)
    assert max(map(len, cli.usage(cli.stages()).splitlines())) <= 120


def test_every_stage_is_in_one_group_and_a_stage_of_none_is_listed_with_the_others():
    grouped = [name for names in cli.GROUPS.values() for name in names]
    assert sorted(grouped) == sorted(cli.stages()), "a stage that is not named in GROUPS of stages/cli.py"
    text = cli.usage({"new": "Does what is new.", "sft": "Trains."})
    assert "train a judge:\n  sft  Trains.\n" in text and "others:\n  new  Does what is new.\n" in text
    assert "see it work" not in text and "others:" not in cli.usage(cli.stages())


def test_the_version_names_what_results_depend_on(capsys):
    assert cli.main(["libra", "--version"]) == 0
    said = capsys.readouterr().out
    assert re.fullmatch(r"libra_jax \d+\.\d+\S*, jax 0\.\d+\.\d+, jaxlib 0\.\d+\.\d+, Python 3\.\d+\.\d+\n", said)


def test_a_reader_that_goes_away_is_no_error():
    command = f"{sys.executable} -m libra_jax.stages.cli --help | true; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout in ("141\n", "0\n") and done.stderr == ""


def test_a_file_without_main_is_no_stage(tmp_path):
    (tmp_path / "a.py").write_text('"""Does a.\n\nMore."""\ndef main(argv=None):\n    return 0\n')
    (tmp_path / "b.py").write_text('"""Does b."""\n')
    (tmp_path / "_c.py").write_text('"""Does c."""\ndef main(): pass\n')
    (tmp_path / "cli.py").write_text('"""Does d."""\ndef main(): pass\n')
    assert cli.stages(tmp_path) == {"a": "Does a."}


def test_a_stage_gets_its_flags_and_its_status_comes_back(tmp_path, capsys):
    assert cli.main(["libra", "bench", f"--workdir={tmp_path}"]) == 2
    assert "--config.examples is empty" in capsys.readouterr().err
    assert cli.main(["libra", "bench", "--help"]) == 0
    assert "--config.bootstrap.level=0.95" in capsys.readouterr().out


@pytest.mark.parametrize("typed, meant", [("bnech", "bench"), ("curat", "curate"), ("convrt", "convert")])
def test_a_mistyped_stage_names_the_nearest(typed, meant, capsys):
    assert cli.main(["libra", typed]) == 2
    assert f"no stage {typed!r}; the nearest is {meant!r}" in capsys.readouterr().err


def test_distributed_joins_the_hosts_before_the_stage_starts(monkeypatch, capsys):
    seen = []
    monkeypatch.setattr("jax.distributed.initialize", lambda **_: seen.append("joined"))
    monkeypatch.setattr("libra_jax.stages.bench.main", lambda argv: seen.append(argv) or 7)
    assert cli.main(["libra", "--distributed", "bench", "--debug"]) == 7
    assert seen == ["joined", ["libra bench", "--debug"]]
    assert cli.main(["libra", "--distributed", "bnch"]) == 2 and len(seen) == 2
    monkeypatch.setattr("jax.distributed.initialize", lambda *where, **_: seen.append(where))
    assert cli.main(["libra", "--distributed=10.0.0.1:1234,4,3", "bench"]) == 7
    assert seen[2:] == [("10.0.0.1:1234", 4, 3), ["libra bench"]]


@pytest.mark.parametrize("where", ["10.0.0.1:1234", "10.0.0.1,2,0", "10.0.0.1:1234,2,2", "a:1,b,c"])
def test_a_place_that_is_none_is_named(where, capsys):
    assert cli.main(["libra", f"--distributed={where}", "bench"]) == 2
    assert f"--distributed={where}: expected HOST:PORT,NUM,ID" in capsys.readouterr().err


def test_no_cluster_names_the_remedy(monkeypatch, capsys):
    def initialize(**_):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr("jax.distributed.initialize", initialize)
    assert cli.main(["libra", "--distributed", "bench"]) == 2
    assert "give --distributed=HOST:PORT,NUM,ID" in capsys.readouterr().err


def test_no_arguments_show_the_usage_as_an_error(capsys):
    assert cli.main(["libra"]) == 2
    assert "usage: libra [--distributed[=HOST:PORT,NUM,ID]] STAGE" in capsys.readouterr().err


def test_no_stage_feels_tensorflow_until_it_feeds_data():
    code = ("import importlib, sys\nfrom libra_jax.stages import cli\n"
            "for name in cli.stages():\n    importlib.import_module(f'libra_jax.stages.{name}')\n"
            "print(sorted({'tensorflow', 'seqio', 'torch'} & set(sys.modules)))")
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr[-2000:]
    assert found.stdout.split("\n")[-2] == "[]"
