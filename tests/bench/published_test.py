"""Rows come out of every kind of file alike; the Hub is a local server; damaged and hostile files are refused."""

import hashlib
import http.server
import json
import os
import pathlib
import subprocess
import sys
import threading

import pytest

from libra_jax.bench import published

ROWS = [{"a": number, "b": ["x", "y"], "unused": "z" * 100} for number in range(200)]


@pytest.mark.parametrize("name", ["t.parquet", "t.json", "t.jsonl", "t.json.gz", "t.jsonl.gz"])
def test_every_kind_of_file_gives_the_same_rows(tmp_path, write_rows, name):
    found = list(published.read(write_rows(tmp_path / name, ROWS), ["a", "b"]))
    assert [(row.number, row.fields["a"], row.fields["b"]) for row in found] == [
        (number + 1, number, ["x", "y"]) for number in range(200)]
    assert published.stem(tmp_path / name) == "t"


def test_json_lines_may_be_called_json(tmp_path):
    (tmp_path / "t.json").write_text('\n{"a": 1}\n{"a": 2}')
    assert [row.number for row in published.read(tmp_path / "t.json", ["a"])] == [2, 3]


def test_of_parquet_only_the_columns_are_read_and_a_missing_one_lists_those_found(tmp_path, write_rows):
    path = write_rows(tmp_path / "t.parquet", ROWS)
    assert next(published.read(path, ["b"])).fields == {"b": ["x", "y"]}
    assert next(published.read(path, ["b", "c"], optional=["c"])).fields == {"b": ["x", "y"]}
    with pytest.raises(published.LayoutError, match=r"t\.parquet: it lacks c; it has a, b, unused"):
        next(published.read(path, ["a", "c"]))


def test_a_broken_line_says_why_and_the_rest_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(published, "LONGEST", 64)
    lines = ["{", "[1]", '{"a": "' + "x" * 500 + '"}', '{"a": 1}', "[" * 60, '{"a": "\\ud800"}', "\xff", ""]
    (tmp_path / "t.jsonl").write_bytes("\n".join(lines).encode("latin-1"))
    found = list(published.read(tmp_path / "t.jsonl", ["a"]))
    assert [(row.number, row.error.partition(":")[0]) for row in found] == [
        (1, "not JSON"), (2, "expected a JSON object, found list"), (3, "a line of more than 64 bytes"), (4, ""),
        (5, "not JSON"), (6, ""), (7, "not JSON")]
    assert found[3].fields == {"a": 1}


def test_deep_nesting_is_an_error_not_a_crash(tmp_path):
    for name in ("t.json", "t.jsonl"):
        (tmp_path / name).write_text("[" * 200_000)
    (row,) = published.read(tmp_path / "t.jsonl", ["a"])
    assert row.fields is None and "not JSON" in row.error
    with pytest.raises(ValueError, match=r"t\.json: not JSON"):
        list(published.read(tmp_path / "t.json", ["a"]))


def test_damaged_and_oversized_files_are_refused(tmp_path, write_rows, monkeypatch):
    whole = write_rows(tmp_path / "t.jsonl.gz", ROWS).read_bytes()
    (tmp_path / "t.jsonl.gz").write_bytes(whole[:-20])
    with pytest.raises(ValueError, match=r"t\.jsonl\.gz: damaged"):
        list(published.read(tmp_path / "t.jsonl.gz", ["a"]))
    whole = write_rows(tmp_path / "t.parquet", ROWS).read_bytes()
    (tmp_path / "t.parquet").write_bytes(whole[:20] + bytes(200) + whole[220:])
    with pytest.raises(ValueError, match=r"t\.parquet: not a parquet file, or damaged"):
        list(published.read(tmp_path / "t.parquet", ["a"]))
    (tmp_path / "t.parquet").write_bytes(b"PAR1 nothing PAR1")
    with pytest.raises(ValueError, match=r"t\.parquet: not a parquet file"):
        list(published.read(tmp_path / "t.parquet", ["a"]))
    monkeypatch.setattr(published, "LARGEST", 1000)
    with pytest.raises(ValueError, match=r"JSON array of more than 1,000 bytes; give it as JSON lines"):
        list(published.read(write_rows(tmp_path / "t.json", ROWS), ["a"]))


def test_a_folder_gives_its_files_in_order_without_hidden_ones(tmp_path):
    for name in ("b/two.jsonl", "a.jsonl", "README.md", ".cache/c.jsonl", "b/.d.json"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert published.files(tmp_path) == [tmp_path / "a.jsonl", tmp_path / "b/two.jsonl"]
    assert published.files(tmp_path / "b/t*.jsonl") == published.files(tmp_path / "?") == [tmp_path / "b/two.jsonl"]
    (tmp_path / "c*").mkdir()
    (tmp_path / "c*/x.jsonl").touch()
    assert published.files(tmp_path / "c*") == [tmp_path / "c*/x.jsonl"]  # what is there is no pattern
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        published.files(tmp_path / "b/x*.jsonl")
    with pytest.raises(ValueError, match=r"README\.md: expected a name that ends in one of \.parquet"):
        published.files(tmp_path / "README.md")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="no file in this folder ends in"):
        published.files(tmp_path / "empty")
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        published.files(tmp_path / "x.jsonl")


COMMIT = "c" * 40
FILES = {"README.md": b"# A card", "data/t.jsonl": b'{"a": 1}\n'}


class Hub(http.server.BaseHTTPRequestHandler):
    """As much of the Hub as one dataset needs: o/n, with a branch main and a tag v1."""

    def do_HEAD(self):
        self.answer(with_body=False)

    def do_GET(self):
        self.answer(with_body=True)

    def answer(self, with_body):
        path = self.path.partition("?")[0]
        status, headers, body = 404, {"X-Error-Code": "RepoNotFound"}, b"{}"
        if path in ("/api/datasets/o/n/revision/main", "/api/datasets/o/n/revision/v1"):
            listed = [{"rfilename": name} for name in FILES]
            status, headers, body = 200, {}, json.dumps({"id": "o/n", "sha": COMMIT, "siblings": listed}).encode()
        elif path.startswith("/api/datasets/o/n/revision/"):
            headers = {"X-Error-Code": "RevisionNotFound"}
        elif path == f"/api/datasets/o/n/tree/{COMMIT}":
            listed = [{"type": "file", "path": name, "size": len(data), "oid": hashlib.sha1(data).hexdigest()}
                      for name, data in FILES.items()]
            status, headers, body = 200, {}, json.dumps(listed).encode()
        elif path.startswith(f"/datasets/o/n/resolve/{COMMIT}/"):
            body = FILES[path.removeprefix(f"/datasets/o/n/resolve/{COMMIT}/")]
            status, headers = 200, {"ETag": f'"{hashlib.sha1(body).hexdigest()}"', "X-Repo-Commit": COMMIT}
        self.send_response(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if with_body:
            self.wfile.write(body)

    def log_message(self, *args):
        pass


def resolve(path, url, cache):
    """(standard output, standard error) of published.resolve in a process of its own, which asks `url`."""
    code = f"from libra_jax.bench import published\nprint(published.resolve({path!r}))"
    env = {**os.environ, "HF_ENDPOINT": url, "HF_HUB_CACHE": str(cache), "HF_HUB_DISABLE_XET": "1",
           "PYTHONPATH": str(pathlib.Path(__file__).parents[2])}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False,
                          timeout=120)
    return done.stdout.strip(), done.stderr


def test_a_dataset_is_downloaded_by_name_and_revision_and_read_again_without_a_network(tmp_path):
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}"
    try:
        folder = pathlib.Path(resolve("hf://datasets/o/n@v1", url, tmp_path)[0])
        assert folder.name == COMMIT
        (file,) = published.files(folder)
        assert file == folder / "data/t.jsonl" and next(published.read(file, ["a"])).fields == {"a": 1}
        for path in ("o/n@v1/data", "o/n@v1/data/t.jsonl", "o/n@v1/data/t*"):
            found, said = resolve(f"hf://datasets/{path}", url, tmp_path / path.replace("*", ""))
            assert found.endswith(path.partition("@v1")[2]), said
            assert [file.name for file in published.files(pathlib.Path(found))] == ["t.jsonl"]
        assert "Revision Not Found" in resolve("hf://datasets/o/n@v2", url, tmp_path)[1]
    finally:
        server.shutdown()
        server.server_close()
    assert resolve("hf://datasets/o/n@v1", url, tmp_path)[0] == str(folder)
    found, said = resolve("hf://datasets/o/n@main", url, tmp_path / "empty")
    assert found == "" and "hf://datasets/o/n@main: not downloaded" in said
    assert "`hf download --repo-type dataset o/n --local-dir DIR` on another machine" in said


def test_other_places_are_paths_and_a_wrong_one_on_the_hub_is_named(tmp_path):
    assert published.resolve(tmp_path) == tmp_path and published.resolve("a/b") == pathlib.Path("a/b")
    for path in ("hf://o/n", "hf://datasets/o", "hf://datasets/o/n/../x", "hf://datasets/o/n@"):
        with pytest.raises(ValueError, match="expected hf://datasets/OWNER/NAME or"):
            published.resolve(path)


@pytest.mark.parametrize("module, path", [("pyarrow", "t.parquet"), ("huggingface_hub", "hf://datasets/o/n")])
def test_without_the_extra_it_is_named(tmp_path, monkeypatch, module, path):
    for name in [name for name in sys.modules if name.split(".")[0] == module]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ValueError, match=rf'{module} is not installed; pip install "libra_jax\[data\]"'):
        list(published.read(pathlib.Path(path), ["a"])) if path == "t.parquet" else published.resolve(path)
