"""Amounts of money: as text, and the cost of a model's replies."""

from decimal import ROUND_HALF_UP, Decimal

MILLION = 1_000_000


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


def cost_of_replies(
    prices: tuple[float | None, float | None, float | None],  # of a reply; of a million tokens of input and of output
    replies_n: int,
    input_tokens: int,
    output_tokens: int,
) -> Decimal | None:
    """Return the exact cost of a model's replies; None if there is no price. Prices are taken as they are written in decimals.

    >>> cost_of_replies((None, 0.15, 0.6), 2, 1_000_000, 500_000), cost_of_replies((0.1, None, None), 3, 0, 0)
    (Decimal('0.45'), Decimal('0.3'))
    """
    of_reply, of_input, of_output = (None if price is None else Decimal(repr(price)) for price in prices)
    if of_reply is not None:
        return of_reply * replies_n
    if of_input is None or of_output is None:
        return None
    return (of_input * input_tokens + of_output * output_tokens) / MILLION


def to_the_cent(value: Decimal) -> Decimal:
    """Round an amount to two decimals, half a cent upwards, as invoices do.

    >>> to_the_cent(Decimal("0.125")), to_the_cent(Decimal("0.124999"))
    (Decimal('0.13'), Decimal('0.12'))
    """
    return value.quantize(Decimal("0.01"), ROUND_HALF_UP)
