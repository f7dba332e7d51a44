"""The report at the end of a demo: sums, and whether log and ledgers agree."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from eventbraid.cli._console import console
from eventbraid.cli._output import printable
from eventbraid.examples.order_fulfilment.catalogue import order_id
from eventbraid.examples.order_fulfilment.values import Money, SagaId

if TYPE_CHECKING:
    from eventbraid.examples.order_fulfilment.demo import DemoOptions, DemoResult
    from eventbraid.examples.order_fulfilment.reconciliation.verdict import (
        Reconciliation,
        Sums,
    )

_MAXIMUM_FINDINGS = 5
_FIRST_SAGA = SagaId.of(order_id(1))


def report(result: DemoResult, options: DemoOptions) -> None:
    """Print the result of a demo."""
    out = console()
    out.print()
    out.print(_orders(result.reconciliation.sums))
    out.print(_verdict(result.reconciliation))
    for line in _findings(result.reconciliation):
        out.print(Text(printable(line)))
    tally = result.tally
    if tally.at_rest:
        out.print(
            f"{tally.at_rest:,} orders in {tally.seconds:,.1f} s: "
            f"{tally.rate:,.0f} orders/s; "
            f"{tally.notified_late:,} customers notified late"
        )
    else:
        out.print("every order had ended before; nothing was done twice")
    shown = printable(str(options.directory))
    out.print(Text(f"look at one: eventbraid saga show {shown} {_FIRST_SAGA}"))


def _orders(sums: Sums) -> Table:
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(overflow="fold")
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("orders", f"{sums.orders:,}", f"worth ${_dollars(sums.value)}")
    table.add_row(
        "completed",
        f"{sums.completed:,}",
        f"worth ${_dollars(sums.completed_value)}; {sums.free_of_charge} for free",
    )
    table.add_row("cancelled", f"{sums.cancelled:,}", "and all their steps compensated")
    for reason, times in _grouped(sums).most_common():
        table.add_row(Text(f"  {printable(reason)}"), f"{times:,}", "")
    table.add_row("captured", f"${_dollars(sums.captured)}", "by the gateway's ledger")
    table.add_row("refunded", f"${_dollars(sums.refunded)}", "by the gateway's ledger")
    table.add_row("reserved", f"{sums.reserved:,}", "pieces, less those released")
    table.add_row("shipped", f"{sums.shipped:,}", "pieces, by the carrier's ledger")
    table.add_row("not notified yet", f"{sums.deferred:,}", "customers")
    return table


def _verdict(reconciliation: Reconciliation) -> Table:
    title = "agree" if reconciliation.is_clean else "DO NOT AGREE"
    table = Table(
        title=f"log and ledgers {title} ({reconciliation.seconds:.1f} s)",
        title_justify="left",
        box=None,
        show_header=False,
        pad_edge=False,
    )
    for rule, findings in reconciliation.findings.items():
        mark = f"[red]{len(findings):,} x[/]" if findings else "[green]ok[/]"
        table.add_row(mark, rule)
    return table


def _findings(reconciliation: Reconciliation) -> list[str]:
    lines: list[str] = []
    for rule, findings in reconciliation.findings.items():
        if findings:
            lines += ["", f"{rule}:", *(f"  {f}" for f in findings[:_MAXIMUM_FINDINGS])]
            more = len(findings) - _MAXIMUM_FINDINGS
            lines += [f"  and {more:,} more"] if more > 0 else []
    return [*lines, ""] if lines else lines


def _grouped(sums: Sums) -> Counter[str]:
    """Count the reasons by step and kind; the rest of the text differs by order."""
    groups: Counter[str] = Counter()
    for reason, times in sums.reasons.items():
        groups[": ".join(reason.split(": ")[:2])] += times
    return groups


def _dollars(cents: int) -> str:
    return Money(cents).dollars
