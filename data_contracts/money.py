"""Amounts of money as text."""

from decimal import Decimal


def amount(value: float, currency: str | None) -> str:
    """Return an amount as text: rounded to two decimals, and followed by the currency if there is one.

    >>> amount(1600, "EUR"), amount(0.5, None)
    ('1,600.00 EUR', '0.50')
    """
    return f"{value:,.2f}" + (f" {currency}" if currency else "")


def unit_price(price: float, currency: str | None) -> str:
    """Return the price of one label as text: all its decimals, at least two, followed by the currency if there is one.

    >>> unit_price(0.125, "EUR"), unit_price(2, None)
    ('0.125 EUR', '2.00')
    """
    exponent = Decimal(repr(price)).as_tuple().exponent
    return f"{price:,.{max(2, -int(exponent))}f}" + (f" {currency}" if currency else "")
