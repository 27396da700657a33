"""The notebooks run, in small; what they show was made by their cells, is small, and says nothing of the machine."""

import ast
import importlib.util
import pathlib
import re

import pytest

nbformat = pytest.importorskip("nbformat", reason='needs pip install "libra_jax[dev]"')
pytest.importorskip("nbclient", reason='needs pip install "libra_jax[dev]"')
pytest.importorskip("ipykernel", reason='needs pip install "libra_jax[dev]"')

ROOT = pathlib.Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SCALE = 0.05
FLAGS = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
MOST = 300_000  # bytes of a notebook
_spec = importlib.util.spec_from_file_location("execute", ROOT / "notebooks/execute.py")
execute = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(execute)

every = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def read(path):
    return nbformat.read(path, as_version=4)


def code(book):
    return [cell for cell in book.cells if cell.cell_type == "code"]


def shape(book):
    """What each code cell shows: kinds and media types, not what is in them."""
    return [[(output.output_type, output.get("name"), sorted(output.get("data", ()))) for output in cell.outputs]
            for cell in code(book)]


def test_there_are_four():
    assert [path.stem for path in NOTEBOOKS] == ["build_a_bench", "improve_a_policy", "judge_a_response",
                                                 "train_a_judge"]


@pytest.fixture(scope="module")
def compiled(tmp_path_factory):
    """A folder of compiled programs that the notebooks share."""
    return tmp_path_factory.mktemp("compiled")


@every
def test_a_notebook_runs_and_shows_what_is_kept(path, compiled, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", FLAGS)  # without the eight devices of the other tests
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(compiled))
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    kept = read(path)
    assert shape(execute.execute(path, scale=SCALE)) == shape(kept)


@every
def test_what_is_kept_was_made_by_these_cells(path):
    book = read(path)
    nbformat.validate(book)
    assert book.metadata.libra_jax.cells == execute.digest(book), f"run: python notebooks/execute.py {path.name}"
    assert [cell.execution_count for cell in code(book)] == list(range(1, len(code(book)) + 1))
    outputs = [output for cell in code(book) for output in cell.outputs]
    assert not any(output.output_type == "error" or output.get("name") == "stderr" for output in outputs)
    assert sum("image/svg+xml" in output.get("data", ()) for output in outputs) >= 1


@every
def test_a_notebook_is_small_and_names_no_machine(path):
    text = path.read_text(encoding="utf-8")
    assert len(text.encode("utf-8")) < MOST
    for found in re.findall(r"(?<![\w./:])/(?:home|root|tmp|work|usr|opt|Users)\b[^\s\"'<]*", text):
        raise AssertionError(found)
    assert not re.search(r"\b0x[0-9a-f]{6,}", text)  # where an object lay
    assert "Warning" not in text


@every
def test_a_notebook_reads_the_package_and_defines_nothing(path):
    for cell in code(read(path)):
        tree = ast.parse(cell.source)
        assert not any(isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Lambda) for node in ast.walk(tree))


@every
def test_the_first_cells_install_and_choose_the_size_in_every_notebook_alike(path):
    install, size = code(read(path))[:2]
    first = code(read(NOTEBOOKS[0]))
    assert "pip" in install.source and install.source == first[0].source and install.outputs == []
    assert execute.SCALE in size.source and size.source == first[1].source
    assert re.fullmatch(r"(CPU|GPU|TPU) runtime, \d+ x .*; SCALE = [\d.]+\n", size.outputs[0].text)


@every
def test_headings_are_in_order_and_the_badge_opens_this_notebook(path):
    book = read(path)
    texts = [cell.source for cell in book.cells if cell.cell_type == "markdown"]
    levels = [len(mark) for text in texts for mark in re.findall(r"^(#+) ", text, re.MULTILINE)]
    assert levels[0] == 1 and set(levels[1:]) == {2}
    install = code(book)[0].source
    (repository,) = re.findall(r'^REPOSITORY = "https://github.com/([\w.-]+/[\w.-]+)"', install, re.MULTILINE)
    (badge,) = re.findall(r"\(https://colab\.research\.google\.com/github/([^)]*)\)", texts[0])
    assert badge == f"{repository}/blob/main/notebooks/{path.name}"


@every
def test_what_a_notebook_points_to_is_there(path):
    for cell in read(path).cells:
        if cell.cell_type == "markdown":
            for name in re.findall(r"`((?:docs|configs|launch|libra_jax)/[\w./]+)", cell.source):
                assert (ROOT / name).exists(), name
            for name in re.findall(r"`(\w+\.ipynb)`", cell.source):
                assert (ROOT / "notebooks" / name).exists(), name
            for stage in re.findall(r"`libra ([a-z_]+)`", cell.source):
                assert (ROOT / f"libra_jax/stages/{stage}.py").exists(), stage


def book_of(*sources):
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source) for source in sources])


def test_what_goes_to_stderr_is_not_kept_and_the_scale_is_given(tmp_path):
    path = tmp_path / "some.ipynb"
    nbformat.write(book_of("import os, sys", f"print(os.environ[{execute.SCALE!r}])\nprint('noise', file=sys.stderr)",
                           "import pathlib; print(list(pathlib.Path().iterdir()))"), path)
    done = execute.execute(path, scale=0.5)
    assert [[output.text for output in cell.outputs] for cell in done.cells] == [[], ["0.5\n"], ["[]\n"]]
    assert done.metadata.libra_jax.cells == execute.digest(done) != execute.digest(book_of("1"))


def test_the_digest_is_of_code_and_of_its_order():
    of = [execute.digest(book_of(*sources)) for sources in (
        ["a = 1", "b = 2"], ["# why\na = 1\n", "b = 2"], ["b = 2", "a = 1"], ["a = 1", "b = 3"], ["a = 1\nb = 2"])]
    assert of[0] == of[1] and len(set(of)) == 4


def test_a_cell_that_fails_fails_the_run_and_leaves_the_file(tmp_path, monkeypatch):
    path = tmp_path / "some.ipynb"
    nbformat.write(book_of("print(1)", "1 / 0"), path)
    before = path.read_bytes()
    monkeypatch.setattr("sys.argv", ["execute.py", str(path)])
    with pytest.raises(Exception, match="ZeroDivisionError"):
        execute.main()
    assert path.read_bytes() == before


def test_without_package_and_address_the_first_cell_says_what_to_set(tmp_path, monkeypatch):
    source = code(read(NOTEBOOKS[0]))[0].source
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    calls = []
    monkeypatch.setattr("subprocess.run", lambda command, check: calls.append(command))
    with pytest.raises(ValueError, match=r"github\.com/OWNER/libra_jax.*set OWNER"):
        exec(compile(source, "first cell", "exec"), {})
    exec(compile(source.replace("OWNER/", "someone/"), "first cell", "exec"), {})
    assert calls[-1][-1].endswith(" @ git+https://github.com/someone/libra_jax")
    monkeypatch.chdir(ROOT / "notebooks")
    exec(compile(source, "first cell", "exec"), {})
    assert calls[-1][-1].endswith(f" @ {ROOT.as_uri()}") and len(calls) == 2
