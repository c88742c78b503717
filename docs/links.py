"""The relative links of the Markdown files: whether they lead somewhere, and their absolute form."""

from __future__ import absolute_import

import io
import os
import posixpath
import re

LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
FENCED = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)


def is_relative(target):
    return "://" not in target and not target.startswith(("#", "mailto:"))


def absolute(text, folder, source, stays=lambda path, is_picture: False):
    """Make links that are relative to a folder links to the repository's host, ``source``.

    Links for which ``stays(path in the repository, is_picture)`` is true remain as they are.
    """

    def replaced(match):
        mark, label, target = match.groups()
        path = posixpath.normpath(posixpath.join(folder, target))
        if not is_relative(target) or stays(path, bool(mark)):
            return match.group()
        return "%s[%s](%s/%s/main/%s)" % (mark, label, source, "raw" if mark else "blob", path)

    return LINK.sub(replaced, text)


def absolute_readme(root, source):
    """Return the README as package indexes need it."""
    with io.open(os.path.join(root, "README.md"), encoding="ascii") as lines:
        # str(): hatchling on Python 2.7 refuses unicode, and so the README is plain ASCII.
        return str(absolute(lines.read(), "", source))


def broken(paths):
    """Yield a line for each link of these files that leads to no file, or to no heading in it."""
    for path in paths:
        for _mark, _label, target in LINK.findall(_read(path)):
            if "://" in target or target.startswith("mailto:"):
                continue
            name, _, anchor = target.partition("#")
            there = os.path.normpath(os.path.join(os.path.dirname(str(path)), name))
            there = there if name else str(path)
            if not os.path.exists(there):
                yield "%s: there is no %s" % (path, target)
            elif anchor and anchor not in _anchors(there):
                yield "%s: there is no heading for %s" % (path, target)


def _read(path):
    with io.open(str(path), encoding="utf-8") as lines:
        return FENCED.sub("", lines.read())


def _anchors(path):
    """The anchors of a file's headings, as the usual hosts and MyST make them."""
    headings = [LINK.sub(r"\2", heading) for heading in HEADING.findall(_read(path))]
    return set(re.sub(r"[^\w\- ]", "", each.lower()).replace(" ", "-") for each in headings)
