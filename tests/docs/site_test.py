"""The site builds without a warning, its links lead somewhere, and no page fetches anything from another host."""

import html.parser
import os
import shutil
import subprocess
import sys
import tomllib
import urllib.parse

import pages
import pytest
from pages import PAGES, ROOT


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    pytest.importorskip("zensical", reason="builds the site: pip install -e '.[docs]'")
    folder = tmp_path_factory.mktemp("checkout")
    shutil.copy(ROOT / "zensical.toml", folder)
    shutil.copytree(ROOT / "docs", folder / "docs")
    command = [sys.executable, "-m", "zensical", "build", "--strict"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False,
                          env=os.environ | {"NO_COLOR": "1"})
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "runs/site"


class Page(html.parser.HTMLParser):
    """What a page links to, what it loads by itself, and the ids that links may name."""

    def __init__(self, text):
        super().__init__()
        self.links, self.loads, self.ids = [], [], set()
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        named = dict(attrs)
        self.ids |= {named[name] for name in ("id", "name") if named.get(name)}
        if tag == "a" and named.get("href"):
            self.links.append(named["href"])
        elif tag in ("link", "script", "img", "iframe", "source", "object"):
            if named.get("rel") not in ("canonical", "next", "prev"):
                self.loads += [named[name] for name in ("href", "src", "data", "srcset") if named.get(name)]


def test_every_page_is_built_and_loads_from_the_site_alone(site):
    for page in PAGES[1:]:
        built = site / page.relative_to(ROOT / "docs").with_suffix(".html")
        for target in Page(built.read_text(encoding="utf-8")).loads:
            assert not urllib.parse.urlparse(target).netloc, f"{built.name} loads {target}"
            assert (built.parent / target.split("?")[0].split("#")[0]).exists(), f"{built.name} loads {target}"


def test_links_of_the_site_lead_somewhere(site):
    seen = {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html") if path.name != "404.html"}
    assert len(seen) >= len(PAGES) - 1
    for path, page in seen.items():
        for link in page.links:
            target, _, anchor = link.partition("#")
            if not urllib.parse.urlparse(target).scheme and target not in ("/",):
                there = (path.parent / target).resolve() if target else path
                there = there / "index.html" if there.is_dir() else there
                assert there.exists(), f"{path.name}: {link}"
                if anchor and there in seen:
                    assert anchor in seen[there].ids, f"{path.name}: {link}"


def test_the_menu_names_every_page_once():
    def named(item):
        return [item] if isinstance(item, str) else [each for part in item for each in named(
            item[part] if isinstance(item, dict) else part)]

    config = tomllib.loads((ROOT / "zensical.toml").read_text(encoding="utf-8"))
    here = sorted(str(page.relative_to(ROOT / "docs")) for page in pages.PAGES[1:])
    assert sorted(named(config["project"]["nav"])) == here, "zensical.toml names every page of docs/ once"
