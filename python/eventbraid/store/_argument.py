"""How an error shows the value of an argument that is refused."""

from __future__ import annotations


def argument_text(value: object) -> str:
    """Return a refused value as text, whatever it is.

    Python converts no integer of more than 4,300 digits to text, and the `__str__` of
    a foreign class may raise anything: the caller reports the argument by its name, so
    neither may replace that error.

    Example:
        >>> argument_text(-1), argument_text(10**5000)
        ('-1', '<int whose str raises ValueError>')
    """
    try:
        return str(value)
    except Exception as error:  # noqa: BLE001 - the caller reports a worse error
        return f"<{type(value).__name__} whose str raises {type(error).__name__}>"
