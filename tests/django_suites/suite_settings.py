"""Settings for Django's own tests: those of its sdist, on two databases of a private server."""

from __future__ import absolute_import

import json
import os

import django
from test_sqlite import *  # noqa: F403

given = json.loads(os.environ["PERSISTCONN_SUITE"])

DATABASES = {}
for alias, name in given["names"].items():
    DATABASES[str(alias)] = database = {"NAME": str(name)}
    for key, value in given["database"].items():
        database[str(key)] = value if isinstance(value, bool) else str(value)

for name, value in given["settings"].items():
    globals()["PERSISTCONN_" + str(name)] = value

if django.VERSION[:2] == (1, 4):
    # The hasher of Django 1.4's own test settings; the default hasher makes tests slow and some
    # fail.
    PASSWORD_HASHERS = ("django.contrib.auth.hashers.SHA1PasswordHasher",)
