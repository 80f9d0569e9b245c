"""Lines of `taskdiv plan` on what more labels may bring: the claim of the stored report, so that plan and page say the same."""

from data_contracts.footer import Footer
from taskdiv_assets.storage.store import Store

TOPIC = "More labels"


def lines(store: Store) -> list[str]:
    """Return one line for each benchmark and metric of the stored report that has a forecast.

    There are none without a report, without scores, or if the report is damaged, which the plan says elsewhere.
    """
    [footer] = store.read_footers([("strategy_report", None)])
    claims = footer.notes.get("claims", []) if isinstance(footer, Footer) else []
    return [
        f"{one['topic'][0].lower()}{one['topic'][1:]} (stored report): {one['short']}"
        for one in claims
        if one["topic"].startswith(TOPIC) and one["verdict"] != "no forecast"
    ]
