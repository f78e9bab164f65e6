"""What staff do with an alert: take care of it, or be reminded later. The list itself is a page like others.

Works without JavaScript: buttons of a form. Every act is in the audit trail before it is done.
"""

from __future__ import annotations

import re

from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.routing import BaseRoute

from gateway.alerts.desk import SNOOZES_S, AlertDesk
from gateway.status.session import WriteRoute, door_of, fields, record, require

_DO = re.compile(r"(seen|snooze-([0-9]{1,6}))\.([0-9]{1,9})")


def routes(alerts: AlertDesk) -> list[BaseRoute]:
    """`POST /alerts` with `do`: `seen.17`, or `snooze-3600.17`."""

    async def act(request: Request) -> Response:
        asked = _DO.fullmatch((await fields(request)).get("do", ""))
        if asked is None or (asked[2] and int(asked[2]) not in SNOOZES_S):
            return PlainTextResponse("no such act\n", 400)
        number, span_s = int(asked[3]), int(asked[2] or 0)
        alert = next((it for it in alerts.view().now if it.number == number), None)
        if alert is not None:  # else it is over meanwhile: nothing is left to do
            await record(request, "alert.snooze" if span_s else "alert.acknowledge", alert.id)
            await door_of(request).work(
                lambda: alerts.snooze(number, span_s) if span_s else alerts.acknowledge(number)
            )  # fmt: skip
        return RedirectResponse("/alerts", 303)

    return [WriteRoute("/alerts", require("staff")(act), max_bytes=1024, read=False)]
