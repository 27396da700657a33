"""The reader of pages, which is no test."""

import importlib.util
import pathlib
import sys

_spec = importlib.util.spec_from_file_location("pages", pathlib.Path(__file__).with_name("pages.py"))
pages = sys.modules.setdefault(_spec.name, importlib.util.module_from_spec(_spec))
if not hasattr(pages, "PAGES"):
    _spec.loader.exec_module(pages)
