"""Pure: how XAPI wants a bridge to be. One rule for the update, which sees to it, and for the sync, which finds out
that it is due.
"""

from typing import TYPE_CHECKING, Collection, Dict, List, NamedTuple, Optional, Union

from ovsxen.ovs.labels import SECURE, STANDALONE, LabelledBridge
from ovsxen.xapi.records import Network

if TYPE_CHECKING:
    from ovsxen.ovs.tables import Bridge

FAIL_MODE = "vswitch-controller-fail-mode"
DISABLE_IN_BAND = "vswitch-disable-in-band"
FAIL_MODES = (SECURE, STANDALONE)
IN_BAND_VALUES = ("true", "false")
IN_BAND_KEY = "disable-in-band"
NETWORK_UUIDS_KEY = "xs-network-uuids"


class Wish(NamedTuple):
    """How one real bridge shall be. `disable_in_band` is None where the key shall not be there."""

    fail_mode: str
    disable_in_band: Optional[str]


def wish_for(bridge: "Union[Bridge, LabelledBridge]", networks: Collection[Network],
             pool_fail_mode: str) -> Optional[Wish]:
    """The network on the bridge itself decides, not those of its VLANs; None where XAPI has no such network.

    Its fail mode is the network's, else the pool's, else standalone; in-band control is the network's alone. Two
    networks on one bridge that disagree leave both as they are.
    """
    wishes = {Wish(fail_mode_of(network, pool_fail_mode), _in_band_of(network, bridge)) for network in networks}
    if len(wishes) > 1:
        return Wish(bridge.fail_mode, bridge.other_config.get(IN_BAND_KEY))
    return wishes.pop() if wishes else None


def fail_mode_of(network: Network, pool_fail_mode: str) -> str:
    """A value that means nothing does not count."""
    return next((mode for mode in (network.other_config.get(FAIL_MODE), pool_fail_mode) if mode in FAIL_MODES),
                STANDALONE)


def _in_band_of(network: Network, bridge: "Union[Bridge, LabelledBridge]") -> Optional[str]:
    """A value that means nothing changes nothing."""
    own = network.other_config.get(DISABLE_IN_BAND, "")
    return own or None if own in IN_BAND_VALUES + ("",) else bridge.other_config.get(IN_BAND_KEY)


def networks_by_bridge(networks: Collection[Network]) -> Dict[str, List[Network]]:
    found: Dict[str, List[Network]] = {}
    for network in networks:
        found.setdefault(network.bridge, []).append(network)
    return found
