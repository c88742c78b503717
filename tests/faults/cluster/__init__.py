"""The server of the faults: ``Cluster`` is that of the chosen database.

base.py has what all have: a server that can be stopped, killed and asked. A module for each
database has the orders that it understands.
"""

from __future__ import absolute_import

import importlib

import databases

Cluster = importlib.import_module("cluster." + databases.NAME).Cluster
