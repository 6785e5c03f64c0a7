"""Versions of XAPI's own plugin by the SHA-256 of the file, and what is wrong with each. Nothing but this table.

How the checksums were obtained: the texts were read from public copies of xapi-project/xen-api and xcp-ng/xen-api
(python3/plugins/openvswitch-config-update) and of the patches in xcp-ng-rpms/xapi. The git blob id of each, beside it
here, is the one that those patches name, so each is the file byte for byte. None was taken from a host.
xen-api installs the file as it is, 0755. Where the build has brp-mangle-shebangs (distributions from EL 8 on), it makes
`#!/usr/bin/python3` of `#!/usr/bin/env python3`: that the same text with that first line is what is installed there is
an inference.

Not here: what xen-api had before the file moved to python3/plugins (its pull request 5771, July 2024), so XenServer 7.1
to 8.2 and early 8, XCP-ng to 8.2 and probably the first 8.3; and what comes after 26.4, should it differ.
"""

from typing import Dict, NamedTuple


class Version(NamedTuple):
    """Which packages have this version, and what is wrong with it."""

    of: str
    fault: str


FIRST_CHARACTERS = "it reads the first character of each answer of ovs-vsctl"
"""So it sets the controller again at each start of XAPI, resets every bridge for that, and never sees to fail modes or
in-band control (xen-api 2c619c5cbe, v23.31.0 and later).
"""

UPSTREAM = Version("xen-api from mid-2024 to 26.4, as it is in XenServer", FIRST_CHARACTERS)
WITH_6653 = Version("XCP-ng 8.3's xapi with the patch of March 2025",
                    FIRST_CHARACTERS + ", and opens TCP port 6653 for every controller")
WITH_METHOD = Version("XCP-ng's xapi that asks xo:sdn-controller:of-method", FIRST_CHARACTERS)

KNOWN: Dict[str, Version] = {
    # blob 834788cf1380301e41056340d367c49f6954e084, as it is and with its first line rewritten; the same below
    "1a7a47e3e9a49a7ead6cf61f338f0069942191221b1a2a25282bd3db656e6a63": UPSTREAM,
    "261780de3dc7f85f99e8f570299780398ab515983729153b1926b5283571a3bb": UPSTREAM,
    # blob 9c988db033ff1cb1af3a3b3d2d180bd9dd5f2c8f
    "a418db2a804173806eb50bbe526fb037c70e4a7211ed8a376ea3c38ffb37159b": WITH_6653,
    "0bded102807dd11d4be21a6eb46dc2b0f1bf98c2e1c5e5a8e775f757d752212c": WITH_6653,
    # blob aa5a11d8553b8c91e48e8392c7bae21b967707a8
    "f289f26a9ac6d60da90241b8c6abab788a115547ef366b113db89ea888ecf2a6": WITH_METHOD,
    "2f16f4c466e2ff02fba3efedf725dd1302537e1ebe797e51780369042dd3116b": WITH_METHOD,
}
