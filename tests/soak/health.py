"""Whether all is well, and whether `ovsxen status` tells the truth about it."""

import subprocess
import time
from typing import Optional

from ovsxen.host.clock import Deadline
from tests.soak.site import EASY, EASY_PAIRS, SECURE, Site
from tests.soak.story import Violation

WELL_WITHIN_S = 90.0
SILENT_S = 3.0
"""So long `ovsxen status` may say that all is well while no frame passes."""


def wait_well(site: Site) -> None:
    """As a person would, who starts the daemon where it was stopped. Raises Violation."""
    site.sentry.wait_until("all is well", _Health(site).is_well, WELL_WITHIN_S)


class _Health:
    """Looks as long as it is not well."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._lying_since_s: Optional[float] = None

    def is_well(self) -> bool:
        """By the word of `ovsxen status`, which frames must bear out, and by the database's."""
        site = self._site
        if site.unit.is_down:
            site.unit.start()
        code = subprocess.call(site.wire.ovsxen_argv("status"), env=site.host.environment(), stdin=subprocess.DEVNULL,
                               stdout=subprocess.DEVNULL, stderr=site.story.output)
        if code != 0:
            self._lying_since_s = None
            return False
        if not self._frames_pass(time.monotonic()):
            return False
        if "flow-restore-wait" in site.host.column("other_config"):
            raise Violation("status says running, and flow-restore-wait is set")
        if sorted(site.host.bridges()) != [EASY, SECURE]:
            raise Violation("the bridges are %s" % site.host.bridges())
        return not site.unit.is_down

    def _frames_pass(self, now_s: float) -> bool:
        if Deadline(0.3).wait_until(lambda: self._site.ears.hears(EASY_PAIRS, now_s), every_s=0.01):
            self._lying_since_s = None
            return True
        self._lying_since_s = self._lying_since_s or now_s
        if now_s - self._lying_since_s > SILENT_S:
            raise Violation("status says running, and no frame passes for %.1f s" % (now_s - self._lying_since_s))
        return False
