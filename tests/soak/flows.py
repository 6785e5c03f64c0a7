"""The flows of the secure bridge, which stay as long as ovs-vswitchd does, or a restart keeps them."""

import time

from tests.soak.site import SECURE, SECURE_PAIRS, Site
from tests.soak.story import Violation

FORWARD_WITHIN_S = 10.0


class Flows:
    """They name ports: where those mean others than before, they forward nothing."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._bridge = "unix:%s" % site.host.paths.bridge_socket(SECURE)
        self._were = ""

    def put(self) -> None:
        """As a controller does: only that can put back what a death of ovs-vswitchd takes."""
        near, far = self._site.wire.ofport("eth1"), self._site.wire.ofport("vif2.0")
        wanted = self._site.host.paths.root / "flows"
        wanted.write_text("".join("cookie=0x%x,priority=%d,in_port=%d,actions=output:%d\n" % flow for flow in (
            (1, 7, near, far), (2, 8, far, near))))
        self._site.host.tool("ovs-ofctl", "-O", "OpenFlow14", "--bundle", "replace-flows", self._bridge, str(wanted))
        self._were = self._dump()
        self.require()

    def require(self) -> None:
        """They are there as they were, and they forward. Raises Violation."""
        began_s, are = time.monotonic(), self._dump()
        if are != self._were:
            raise Violation("the flows of %s were\n%s\nand are\n%s" % (SECURE, self._were, are))
        self._site.sentry.wait_until("the flows of %s forward" % SECURE,
                                     lambda: self._site.ears.hears(SECURE_PAIRS, began_s), FORWARD_WITHIN_S)

    def _dump(self) -> str:
        return self._site.host.tool("ovs-ofctl", "--no-stats", "--sort", "dump-flows", self._bridge)
