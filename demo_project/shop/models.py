"""Their tables are made by demo_project/witness.py, in SQL that every Django agrees on."""

from django.db import models


class Product(models.Model):
    number = models.IntegerField(primary_key=True)
    name = models.CharField(max_length=40)

    class Meta:
        app_label = "shop"
        db_table = "persistconn_demo_product"
        managed = False


class Order(models.Model):
    token = models.CharField(max_length=40, primary_key=True)
    paid = models.BooleanField(default=False)

    class Meta:
        app_label = "shop"
        db_table = "persistconn_demo_order"
        managed = False
