import sys

from django.db import transaction
from django.http import HttpResponse

from demo_project.shop.models import Order, Product

atomic = getattr(transaction, "atomic", None) or transaction.commit_on_success


class PaymentRefused(Exception):
    pass


def product(request, number):
    return HttpResponse(Product.objects.get(number=number).name)


@atomic
def order(request, token):
    Order.objects.create(token=token)
    Order.objects.filter(token=token).update(paid=True)
    return HttpResponse("paid {}".format(token))


@atomic
def refused(request, token):
    Order.objects.create(token=token)
    raise PaymentRefused(token)


def server_error(request):
    """Names the exception, so that a client can tell the intended 500 from any other."""
    return HttpResponse(sys.exc_info()[0].__name__, status=500)
