"""The one table of the tests."""

from __future__ import absolute_import

from django.db import models


class Item(models.Model):
    name = models.TextField(primary_key=True)

    class Meta:
        db_table = "item"
        managed = False
        app_label = "site_app"
