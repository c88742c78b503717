"""Sphinx: `nox -s docs` builds these pages, and Read the Docs does."""

from __future__ import absolute_import

import pathlib
import re
import sys

HERE = pathlib.Path(__file__).parent
sys.path.append(str(HERE))

import links  # noqa: E402

project = "persistconn"
author = "the persistconn authors"
extensions = ["myst_parser"]
myst_heading_anchors = 3
html_theme = "furo"
html_title = "persistconn"

# One line of pyproject.toml names the repository's host.
PYPROJECT = (HERE.parent / "pyproject.toml").read_text(encoding="utf-8")
SOURCE = re.search(r'^Source = "(.+)"$', PYPROJECT, re.MULTILINE).group(1)


def setup(app):
    app.connect("source-read", on_source_read)


def on_source_read(app, name, source):
    if name == "index":
        source[0] += contents(source[0])
    source[0] = links.absolute(source[0], "docs", SOURCE, stays)


def stays(path, is_picture):
    return is_picture or path.startswith("docs/")


def contents(text):
    """Sphinx's list of pages, so that index.md needs no directive that only Sphinx understands."""
    pages = re.findall(r"\]\((\w[\w-]*)\.md\)", text)
    return "\n\n```{toctree}\n:hidden:\n\n%s\n```\n" % "\n".join(dict.fromkeys(pages))
