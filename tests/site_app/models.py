"""The one table of the tests, and a view of the session that asks."""

from __future__ import absolute_import

from django.db import models


class Item(models.Model):
    name = models.TextField(primary_key=True)

    class Meta:
        db_table = "item"
        managed = False
        app_label = "site_app"


class Session(models.Model):
    pid = models.IntegerField(primary_key=True)
    role = models.TextField()
    tenant = models.TextField()

    class Meta:
        db_table = "session"
        managed = False
        app_label = "site_app"
