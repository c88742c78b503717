"""The database that the tests run on: PERSISTCONN_TEST_DATABASE=postgresql (the default) or mariadb.

``chosen`` is a module with the same names for each: the private server, the driver, the statements
that ask for facts about sessions, and how sessions are ended.
"""

from __future__ import absolute_import

import importlib
import os

NAMES = ("postgresql", "mariadb")
NAME = os.environ.get("PERSISTCONN_TEST_DATABASE", NAMES[0])
if NAME not in NAMES:
    raise ValueError("PERSISTCONN_TEST_DATABASE is %r; allowed: %s." % (NAME, ", ".join(NAMES)))

chosen = importlib.import_module("databases." + NAME)
