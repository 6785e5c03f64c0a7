"""OpenFlow state kept over a real stop and start of ovs-vswitchd (dummy datapath), and what a fresh one starts with."""

import itertools
import signal
import threading
from typing import Callable, Dict, List, Tuple

import pytest

from ovsxen.errors import AdministratorError, NoAnswer
from ovsxen.host.paths import Paths
from ovsxen.host.settings import Settings
from ovsxen.ovs import daemons, launch
from ovsxen.ovs.daemons import VSWITCHD
from ovsxen.ovs.kept_flows import Kept, NotRestored, comes_back_by_itself, put_back, restore_around, save
from ovsxen.ovs.openflow import OPENFLOW10, OPENFLOW15
from ovsxen.ovs.switching import is_primary
from tests.conftest import SandboxHost

WITHIN_S = 20.0
DUMMY = Settings(mlockall=False, vswitchd_options=("--enable-dummy=override",))
DUMPS = ("dump-flows", "dump-groups", "dump-meters", "dump-tlv-map")
NORMAL = "priority=0 actions=NORMAL"

METERS = ("meter=1,pktps,burst,stats,band=type=drop,rate=1000,burst_size=9",
          "meter=7,kbps,band=type=drop,rate=5")
GROUPS = (
    "group_id=1,type=select,selection_method=hash,selection_method_param=7,fields(ip_src,tcp_dst),"
    "bucket=bucket_id:4,weight:5,actions=group:2,bucket=bucket_id:9,weight:0,actions=output:1",
    "group_id=2,type=all,bucket=actions=set_field:02:00:00:00:00:01->eth_dst,output:1,bucket=actions=group:4",
    "group_id=3,type=ff,bucket=watch_port:1,actions=output:1,bucket=watch_group:2,actions=group:2",
    "group_id=4,type=indirect,bucket=actions=meter:7,LOCAL",
    "group_id=5,type=select,selection_method=dp_hash,bucket=actions=LOCAL", "group_id=6,type=all",
)
FLOWS = (
    "priority=0,actions=NORMAL", "cookie=0xfedcba9876543210,priority=65535,actions=drop",
    "importance=9,idle_timeout=3600,hard_timeout=7200,send_flow_rem,no_packet_counts,no_byte_counts,ip,actions=LOCAL",
    "table=1,reset_counts,arp,arp_op=1,arp_tpa=10.0.0.0/8,actions=in_port",
    "table=2,ip,nw_proto=2,actions=NORMAL", "table=2,priority=7,actions=CONTROLLER:65535",
    "table=3,tcp,tcp_dst=0x1000/0xf000,tcp_flags=+syn-ack,actions=ct(commit,zone=5,nat(src=10.1.0.1-10.1.0.9:80-90),"
    "exec(set_field:7->ct_mark)),resubmit(,4)",
    "table=3,ct_state=+est+trk,ip,ct_mark=7,actions=ct(table=4,zone=NXM_NX_REG0[0..15])",
    "table=4,tun_metadata0=0x5,tun_metadata1=0x12/0xff,tun_id=0x10/0xf0,actions=set_field:0x1234->tun_metadata1,1",
    "table=5,actions=learn(table=6,idle_timeout=9,NXM_OF_VLAN_TCI[0..11],NXM_OF_ETH_DST[]=NXM_OF_ETH_SRC[],"
    "output:NXM_OF_IN_PORT[],load:5->NXM_NX_REG1[])",
    "table=6,conj_id=3,ip,actions=meter:1,group:1", "table=6,ip,nw_src=10.0.0.1,actions=conjunction(3,1/2)",
    "table=6,tcp,tcp_dst=80,actions=conjunction(3,2/2)",
    "table=7,metadata=0x5/0xf,actions=write_actions(set_queue:2,group:3),write_metadata:0x10/0xff,goto_table:200",
    "table=8,actions=meter:7,set_field:1->reg3,clear_actions,write_actions(drop),goto_table:9",
    "table=9,dl_vlan=5,dl_vlan_pcp=3,actions=pop_vlan,push_vlan:0x88a8,set_field:4102->vlan_vid,LOCAL",
    "table=9,mpls,mpls_label=7,actions=pop_mpls:0x0800,dec_ttl,enqueue(1,3)",
    "table=10,ipv6,ipv6_dst=fd00::/64,ipv6_label=0x5,actions=set_field:fd00::1->ipv6_src,dec_ttl(1,2)",
    "table=10,icmp6,icmp_type=135,nd_target=fe80::1,nd_sll=02:00:00:00:00:07,actions=controller(userdata=01.02,pause)",
    "table=11,sctp,sctp_src=9,actions=move:NXM_OF_IP_SRC[]->NXM_NX_REG2[],push:NXM_NX_REG2[],clone(check_pkt_larger(9)->reg0[0])",
    "table=12,packet_type=(1,0x800),actions=decap(),encap(ethernet),note:01.02.03",
    "table=13,in_port=kp1,xreg0=5,actions=bundle(eth_src,0,hrw,ofport,members:1,2),multipath(eth_src,50,modulo_n,1,0,"
    "NXM_NX_REG0[]),sample(probability=9,collector_set_id=1,obs_domain_id=2,obs_point_id=3),kp1",
    "table=253,tcp,reg15=0xffffffff,actions=fin_timeout(idle_timeout=9),output:NXM_NX_REG1[0..15],exit",
)
TLV_MAP = "{class=0xffff,type=0,len=4}->tun_metadata0,{class=0x102,type=3,len=124}->tun_metadata1"
EASY = ("priority=0,actions=NORMAL",
        "cookie=0x5,table=3,priority=9,tcp,nw_src=10.0.0.0/8,tp_dst=80,actions=mod_nw_tos:4,2",
        "table=1,dl_vlan=7,actions=strip_vlan,resubmit(,3)", "hard_timeout=900,arp,actions=LOCAL")


def restore(paths: Paths, kept: Tuple[Kept, ...], within_s: float) -> None:
    """Put back what was kept, where no controller comes to flush it."""
    restore_around(paths, kept, frozenset(), lambda: None, within_s)


@pytest.fixture
def host(host: SandboxHost) -> SandboxHost:
    """A started host with one standalone bridge, k, of two ports."""
    host.start()
    host.vsctl("del-manager")
    host.vsctl("add-br", "k", "--", "add-port", "k", "kp1", "--", "add-port", "k", "kp2")
    return host


def ofctl(host: SandboxHost, bridge: str, *arguments: str, version: str = "OpenFlow15") -> str:
    """ovs-ofctl with a command and what goes with it behind the bridge."""
    socket = "unix:%s" % host.paths.bridge_socket(bridge)
    return host.tool("ovs-ofctl", "-O", version, "--no-stats", arguments[0], socket, *arguments[1:])


def add(host: SandboxHost, bridge: str, *flows: str, version: str = "OpenFlow15") -> None:
    for flow in flows:
        ofctl(host, bridge, "add-flow", flow, version=version)


def state(host: SandboxHost, bridge: str, version: str = "OpenFlow15",
          dumps: Tuple[str, ...] = DUMPS) -> Tuple[Tuple[str, ...], ...]:
    """All that ovs-ofctl says of a bridge, without the order."""
    return tuple(tuple(sorted(line for line in ofctl(host, bridge, dump, version=version).splitlines()
                              if "reply" not in line and "REPLY" not in line)) for dump in dumps)


def flows_inside(host: SandboxHost, bridge: str) -> Tuple[str, ...]:
    """The flows as ovs-vswitchd itself has them, whatever OpenFlow version could say that."""
    said = daemons.ask(host.paths, daemons.find(host.paths, VSWITCHD), "bridge/dump-flows", (bridge,), WITHIN_S)
    lines = (line.split("n_bytes=", 1) for line in said.splitlines() if "table_id=254" not in line)
    return tuple(sorted(head.split("duration=")[0] + tail.split(",", 1)[1] for head, tail in lines))


def await_restore(host: SandboxHost, *, waits: bool) -> None:
    """Set or clear `flow-restore-wait`; returns when ovs-vswitchd has done what that takes, where it runs."""
    change = (("set", "Open_vSwitch", ".", "other_config:flow-restore-wait=true") if waits
              else ("remove", "Open_vSwitch", ".", "other_config", "flow-restore-wait"))
    host.vsctl(*(("--no-wait",) if waits else ()) + change)


def restart(host: SandboxHost, *, waits: bool = True) -> None:
    """A real stop and start of ovs-vswitchd, which then awaits the flows."""
    if waits:
        await_restore(host, waits=True)
    daemons.stop(host.paths, VSWITCHD)
    daemons.start(host.paths, launch.vswitchd_argv(host.paths, DUMMY), 0, WITHIN_S)


def set_up_all(host: SandboxHost, bridge: str) -> None:
    """Give a bridge every kind of state, in place of what it has."""
    ofctl(host, bridge, "del-flows")
    ofctl(host, bridge, "add-tlv-map", TLV_MAP)
    for meter in METERS:
        ofctl(host, bridge, "add-meter", meter)
    for group in GROUPS:
        ofctl(host, bridge, "add-group", group)
    path = host.paths.root / "flows"
    path.write_text("\n".join(FLOWS[1:]).replace("kp1", bridge + "p1"))
    ofctl(host, bridge, "add-flows", str(path))


def test_everything_that_a_bridge_has_is_there_after_a_restart_and_nothing_else(host: SandboxHost) -> None:
    set_up_all(host, "k")
    before = state(host, "k")
    assert len(before[0]) == len(FLOWS) - 1
    kept = save(host.paths, ("k",), WITHIN_S)
    restart(host)
    assert state(host, "k")[0] == (NORMAL,)
    for _ in range(2):
        restore(host.paths, kept, WITHIN_S)
        assert state(host, "k") == before
    await_restore(host, waits=False)
    assert state(host, "k") == before


def test_what_came_in_between_is_gone_after_restoring(host: SandboxHost) -> None:
    add(host, "k", "table=3,priority=9,arp,actions=LOCAL")
    ofctl(host, "k", "add-group", "group_id=9,type=all,bucket=actions=LOCAL")
    ofctl(host, "k", "add-meter", "meter=3,pktps,band=type=drop,rate=5")
    before, kept = state(host, "k"), save(host.paths, ("k",), WITHIN_S)
    ofctl(host, "k", "del-groups")
    ofctl(host, "k", "mod-meter", "meter=3,kbps,band=type=drop,rate=6")
    set_up_all(host, "k")
    restore(host.paths, kept, WITHIN_S)
    assert state(host, "k")[:3] == before[:3]


@pytest.mark.parametrize("version", ["OpenFlow1%d" % minor for minor in range(6)])
def test_flows_are_kept_whichever_openflow_version_the_bridge_allows(host: SandboxHost, version: str) -> None:
    host.vsctl("set", "Bridge", "k", "protocols=" + version)
    ofctl(host, "k", "del-flows", version=version)
    add(host, "k", *EASY, version=version)
    dumps: Tuple[str, ...] = ("dump-flows",)
    if version != "OpenFlow11":  # ovs-ofctl has no TLV map in that version
        dumps += ("dump-tlv-map",)
        ofctl(host, "k", "add-tlv-map", TLV_MAP, version=version)
        add(host, "k", "table=4,tun_metadata0=0x7,actions=NORMAL", version=version)
    if version != "OpenFlow10":
        dumps += ("dump-groups",)
        ofctl(host, "k", "add-group", "group_id=9,type=select,bucket=weight:5,actions=LOCAL", version=version)
        add(host, "k", "table=7,actions=write_actions(group:9),goto_table:8", version=version)
    before, inside = state(host, "k", version, dumps), flows_inside(host, "k")
    kept = save(host.paths, ("k",), WITHIN_S)
    restart(host)
    for _ in range(2):
        restore(host.paths, kept, WITHIN_S)
        assert (state(host, "k", version, dumps), flows_inside(host, "k")) == (before, inside)


def test_what_only_openflow_10_says_truly_is_kept(host: SandboxHost) -> None:
    """All these actions are refused by later versions, or said as a push of a tag."""
    ofctl(host, "k", "del-flows")
    actions = ("strip_vlan,1", "mod_vlan_vid:7,1", "mod_vlan_pcp:3,1", "mod_nw_dst:10.0.0.1,1", "mod_nw_tos:4,1",
               "mod_tp_dst:80,1", "dec_ttl,1")
    for place, text in enumerate(actions):
        add(host, "k", "table=%d,cookie=0x77,in_port=2,send_flow_rem,idle_timeout=900,actions=%s" % (place, text),
            version="OpenFlow10")
    add(host, "k", "table=1,arp,actions=push_vlan:0x8100,set_field:4103->vlan_vid,1",
        "table=1,ip,actions=write_actions(1)")
    before, inside = state(host, "k"), flows_inside(host, "k")
    assert sum("mod_" in flow for flow in inside) == 5
    assert sum("send_flow_rem" in flow for flow in before[0]) == len(actions)
    kept = save(host.paths, ("k",), WITHIN_S)
    assert len(kept[0].flows10) == len(actions)
    restart(host)
    for _ in range(2):
        restore(host.paths, kept, WITHIN_S)
        assert (state(host, "k"), flows_inside(host, "k")) == (before, inside)


WORDS_OF_10 = ("strip_vlan,NORMAL", "mod_nw_tos:32,mod_tp_src:5,NORMAL", "mod_vlan_vid:7,NORMAL", "mod_vlan_pcp:3,1",
               "enqueue:1:3", "dec_ttl,resubmit(,9)", "drop")


@pytest.mark.parametrize("newest", ["OpenFlow10", "OpenFlow11", "OpenFlow12"])
def test_where_bundles_are_not_allowed_flows_are_kept_as_openflow_10_says_them(host: SandboxHost, newest: str) -> None:
    host.vsctl("set", "Bridge", "k", "protocols=OpenFlow10", "--", "add", "Bridge", "k", "protocols", newest)
    dumps = () if newest == "OpenFlow10" else ("dump-groups",)
    if dumps:
        ofctl(host, "k", "add-group", "group_id=9,type=all,bucket=actions=LOCAL", version=newest)
    for place, actions in enumerate(WORDS_OF_10):
        add(host, "k", "table=%d,cookie=1,ip,actions=%s" % (place, actions), version="OpenFlow10")
    inside, groups = flows_inside(host, "k"), state(host, "k", newest, dumps)
    assert sum("mod_vlan" in flow or "strip_vlan" in flow for flow in inside) == 3
    kept = save(host.paths, ("k",), WITHIN_S)
    assert flows_inside(host, "k") == inside
    restart(host)
    for _ in range(2):
        restore(host.paths, kept, WITHIN_S)
        assert (flows_inside(host, "k"), state(host, "k", newest, dumps)) == (inside, groups)


UNTOLD = [("OpenFlow10", "group:9"), ("OpenFlow10", "meter:7,NORMAL"), ("OpenFlow10", "write_actions(group:9)"),
          ("OpenFlow10", "write_actions(set_field:1->reg0)"), ("OpenFlow10", "clear_actions"),
          ("OpenFlow10", "goto_table:90"), ("OpenFlow10", "clone(set_field:7->reg0,group:9)"),
          ("OpenFlow10", "push_vlan:0x8100,set_field:4103->vlan_vid,NORMAL"), ("OpenFlow10", "encap(ethernet)"),
          ("OpenFlow12", "meter:7,NORMAL"), ("OpenFlow11,OpenFlow12", "encap(ethernet)")]


@pytest.mark.parametrize("protocols, actions", UNTOLD)
def test_what_no_allowed_version_tells_ends_a_save_and_its_remedy_works(
        host: SandboxHost, protocols: str, actions: str) -> None:
    """Flows that were added while the bridge allowed more."""
    ofctl(host, "k", "add-group", "group_id=9,type=all,bucket=actions=LOCAL")
    ofctl(host, "k", "add-meter", METERS[1])
    add(host, "k", "table=1,cookie=0x5,ip,actions=" + actions)
    before = state(host, "k")
    follow_remedies(host, protocols)
    kept = save(host.paths, ("k",), WITHIN_S)
    assert state(host, "k") == before
    restart(host)
    restore(host.paths, kept, WITHIN_S)
    assert state(host, "k") == before


def follow_remedies(host: SandboxHost, protocols: str) -> None:
    """Have bridge k allow only these versions; a save then fails, until all is done that it says."""
    host.vsctl("set", "Bridge", "k", "protocols=" + protocols)
    said: List[str] = []
    while not said or said[-1]:
        try:
            save(host.paths, ("k",), WITHIN_S)
            said.append("")
        except AdministratorError as error:
            assert "bridge k" in error.problem and "type" not in error.problem and str(error) not in said
            said.append(str(error))
            host.tool(*error.remedy.split("`")[1].split())
    assert len(said) > 1


@pytest.mark.parametrize("actions", ["mod_vlan_vid:7,NORMAL", "strip_vlan,NORMAL"])
def test_without_openflow_10_its_flows_end_a_save_and_the_remedy_works(host: SandboxHost, actions: str) -> None:
    add(host, "k", "actions=" + actions, version="OpenFlow10")
    inside = flows_inside(host, "k")
    follow_remedies(host, "OpenFlow12")
    kept = save(host.paths, ("k",), WITHIN_S)
    restart(host)
    restore(host.paths, kept, WITHIN_S)
    assert flows_inside(host, "k") == inside


def test_flows_that_come_and_go_meanwhile_are_never_mistaken_for_others(host: SandboxHost) -> None:
    """A flow that has to be read by two versions stays itself, or there is no answer."""
    add(host, "k", "in_port=2,priority=5,actions=strip_vlan,1", version="OpenFlow10")
    (alone,), over = save(host.paths, ("k",), WITHIN_S), threading.Event()

    def churn() -> None:
        number = itertools.count(100)
        while not over.is_set():
            add(host, "k", "in_port=%d,priority=5,actions=strip_vlan,1" % next(number), version="OpenFlow10")

    thread = threading.Thread(target=churn)
    thread.start()
    try:
        for _ in range(50):
            try:
                kept, = save(host.paths, ("k",), WITHIN_S)
            except NoAnswer as error:
                assert "bridge k changed" in str(error)
                continue
            assert set(alone.flows10) <= set(kept.flows10)
            assert len(kept.flows10) == len(set(kept.flows10)) and len(kept.flows) == 1
    finally:
        over.set()
        thread.join()


def test_a_bridge_that_gets_its_controllers_back_is_restored_once_more(host: SandboxHost) -> None:
    host.vsctl("set-controller", "k", "tcp:127.0.0.1:9", "--", "add-br", "j", "--", "add-port", "j", "jp1")
    set_up_all(host, "k")
    add(host, "k", "table=1,in_port=2,actions=mod_vlan_vid:7,1", version="OpenFlow10")
    set_up_all(host, "j")
    before, inside = [state(host, bridge) for bridge in "jk"], flows_inside(host, "k")
    kept = save(host.paths, ("j", "k"), WITHIN_S)
    seen: List[object] = []

    def clear() -> None:
        seen.append([state(host, bridge) == its for bridge, its in zip("jk", before)])
        await_restore(host, waits=False)
        seen.append([state(host, bridge)[0] for bridge in "jk"])

    restart(host)
    restore_around(host.paths, kept, frozenset("k"), clear, WITHIN_S)
    assert seen == [[True, True], [before[0][0], ()]]
    assert [state(host, bridge) for bridge in "jk"] == before and flows_inside(host, "k") == inside


def test_what_a_quicker_controller_has_set_stays(host: SandboxHost) -> None:
    host.vsctl("set-controller", "k", "tcp:127.0.0.1:9")
    set_up_all(host, "k")
    before = state(host, "k")
    kept = save(host.paths, ("k",), WITHIN_S)

    def clear() -> None:
        await_restore(host, waits=False)
        ofctl(host, "k", "add-meter", METERS[0])
        ofctl(host, "k", "add-group", GROUPS[0])
        add(host, "k", "table=99,actions=LOCAL")

    restart(host)
    restore_around(host.paths, kept, frozenset("k"), clear, WITHIN_S)
    added = " table=99, actions=LOCAL"
    assert added in state(host, "k")[0]
    ofctl(host, "k", "del-flows", "table=99")
    assert state(host, "k") == before


@pytest.mark.parametrize("version", ["OpenFlow10", "OpenFlow12", "OpenFlow15"])
def test_a_bridge_that_lost_all_gets_it_in_place_of_its_normal_flow(host: SandboxHost, version: str) -> None:
    ofctl(host, "k", "del-flows")
    add(host, "k", "table=1,in_port=2,actions=strip_vlan,mod_vlan_vid:7,1", version="OpenFlow10")
    host.vsctl("set", "Bridge", "k", "protocols=OpenFlow10", "--", "add", "Bridge", "k", "protocols", version)
    inside, kept = flows_inside(host, "k"), save(host.paths, ("k",), WITHIN_S)
    restart(host, waits=False)
    assert flows_inside(host, "k") != inside
    for _ in range(2):
        put_back(host.paths, kept, WITHIN_S)
        assert flows_inside(host, "k") == inside


def test_what_a_bridge_has_got_since_it_lost_all_stays(host: SandboxHost) -> None:
    set_up_all(host, "k")
    add(host, "k", "table=21,in_port=2,actions=mod_vlan_vid:7,1", "table=22,in_port=2,actions=mod_vlan_vid:7,1",
        version="OpenFlow10")
    before, inside = state(host, "k"), flows_inside(host, "k")
    kept = save(host.paths, ("k",), WITHIN_S)
    restart(host, waits=False)
    ofctl(host, "k", "add-group", "group_id=4,type=all")
    ofctl(host, "k", "add-meter", "meter=7,kbps,band=type=drop,rate=99")
    since = (" table=21, in_port=2 actions=LOCAL", " table=9, arp actions=drop", " table=2, priority=7 actions=group:4")
    add(host, "k", *since)
    own = state(host, "k")
    for _ in range(2):
        put_back(host.paths, kept, WITHIN_S)
        flows, groups, meters, tlv_map = state(host, "k")
        assert set(own[0]) <= set(flows) and set(own[1]) <= set(groups) and set(own[2]) <= set(meters)
        assert [len(now) for now in (flows, groups, meters, tlv_map)] == [
            len(before[0]) + 2, len(before[1]), len(before[2]), len(before[3])]  # NORMAL too, and the flow about ARP
        assert len(set(inside) - set(flows_inside(host, "k"))) == 2  # those that were replaced


def test_who_cannot_be_given_what_was_kept_is_named_and_the_others_get_it(host: SandboxHost) -> None:
    host.vsctl("add-br", "b", "--", "add-br", "c")
    for bridge in "bck":
        add(host, bridge, "table=1,arp,actions=LOCAL")
    before, kept = state(host, "k"), save(host.paths, ("b", "c", "k"), WITHIN_S)
    restart(host, waits=False)
    host.vsctl("del-br", "b", "--", "set", "Bridge", "c", "protocols=OpenFlow10")
    with pytest.raises(NotRestored) as caught:
        put_back(host.paths, kept, WITHIN_S)
    assert sorted(caught.value.bridges) == ["b", "c"]
    assert state(host, "k") == before


@pytest.mark.parametrize("version", ["OpenFlow10,OpenFlow11", ""])
def test_what_comes_back_by_itself_is_what_a_fresh_ovs_vswitchd_gives(host: SandboxHost, version: str) -> None:
    kinds: Dict[str, Tuple[str, str]] = {
        "k%d" % number: kind for number, kind in enumerate(itertools.product(
            ("", "standalone", "secure"), ("", "tcp:127.0.0.1:9", "pssl:0:127.0.0.1")))}
    for bridge, (fail_mode, controller) in kinds.items():
        host.vsctl("add-br", bridge, "--", "set", "Bridge", bridge, *(
            ["protocols=" + version] if version else []) + ["fail_mode=" + (fail_mode or "[]")], *(
            ["--", "set-controller", bridge, controller] if controller else []))
    restart(host, waits=False)

    def by_itself(one: Kept) -> bool:
        fail_mode, controller = kinds[one.bridge]
        return comes_back_by_itself(one, fail_mode=fail_mode,
                                    controllers=int(bool(controller) and is_primary(controller, "")))

    kept = save(host.paths, tuple(kinds), WITHIN_S)
    assert {one.bridge: by_itself(one) for one in kept} == dict.fromkeys(kinds, True)
    for bridge in kinds:
        add(host, bridge, "table=1,arp,actions=LOCAL", version="OpenFlow10")
    assert not any(by_itself(one) for one in save(host.paths, tuple(kinds), WITHIN_S))
    for bridge in kinds:
        ofctl(host, bridge, "del-flows", version="OpenFlow10")
    assert {one.bridge for one in save(host.paths, tuple(kinds), WITHIN_S) if by_itself(one)} == {
        bridge for bridge, (mode, controller) in kinds.items() if mode == "secure" or controller.startswith("tcp")}


@pytest.mark.parametrize("change", [("add-group", "group_id=9,type=all"), ("add-tlv-map", TLV_MAP),
                                    ("add-meter", METERS[0]), ("add-flow", "priority=0,cookie=1,actions=NORMAL")])
def test_nothing_but_the_normal_flow_comes_back_by_itself(host: SandboxHost, change: Tuple[str, str]) -> None:
    ofctl(host, "k", *change)
    kept, = save(host.paths, ("k",), WITHIN_S)
    assert not comes_back_by_itself(kept, fail_mode="", controllers=0)


def test_thousands_of_flows_are_kept(host: SandboxHost) -> None:
    path = host.paths.root / "flows"
    path.write_text("".join("table=%d,priority=%d,tcp,nw_src=10.0.%d.%d,actions=LOCAL\n" % (
        number % 7, number % 11, number >> 8, number & 255) for number in range(5000)))
    ofctl(host, "k", "add-flows", str(path))
    before, kept = state(host, "k"), save(host.paths, ("k",), WITHIN_S)
    assert len(kept[0].flows) == 5001
    ofctl(host, "k", "del-flows")
    restore(host.paths, kept, WITHIN_S)
    assert state(host, "k") == before


def test_a_bridge_that_refuses_a_flow_is_named_and_gets_all_others_and_so_do_other_bridges(host: SandboxHost) -> None:
    for bridge in ("a", "b"):
        host.vsctl("add-br", bridge)
    for bridge in ("a", "b", "k"):
        add(host, bridge, "table=1,priority=5,cookie=0x5,arp,actions=LOCAL", "table=2,actions=LOCAL")
    before = {bridge: state(host, bridge) for bridge in "abk"}
    kept = save(host.paths, ("a", "b", "k"), WITHIN_S)
    wrong = kept[1].flows[1][:24] + b"\xff" + kept[1].flows[1][25:]
    restart(host)
    with pytest.raises(NotRestored, match="bridge b did not take back .*table=255.*no such table") as caught:
        restore(host.paths, (kept[0], kept[1]._replace(flows=(wrong,) + kept[1].flows), kept[2]), WITHIN_S)
    assert caught.value.bridges == ("b",)
    assert {bridge: state(host, bridge) for bridge in "abk"} == before


@pytest.mark.parametrize("is_flushed", [False, True])
def test_flows_of_a_group_that_is_missing_are_missing_too_and_no_others(host: SandboxHost, is_flushed: bool) -> None:
    host.vsctl("set-controller", "k", "tcp:127.0.0.1:9")
    ofctl(host, "k", "add-group", "group_id=9,type=all")
    add(host, "k", "table=1,arp,actions=group:9", "table=2,arp,actions=group:9", "table=3,actions=LOCAL")
    kept, = save(host.paths, ("k",), WITHIN_S)
    restart(host)
    flushed = frozenset(["k"] if is_flushed else [])
    with pytest.raises(NotRestored, match="bridge k .*table=.*no such group and 1 more"):
        restore_around(host.paths, (kept._replace(groups=()),), flushed,
                       lambda: await_restore(host, waits=not is_flushed), WITHIN_S)
    assert state(host, "k")[0] == ("table=3, actions=LOCAL",)


Call = Callable[[SandboxHost, str], object]
CALLS = pytest.mark.parametrize("call", [
    lambda host, bridge: save(host.paths, ("k", bridge), 0.5),
    lambda host, bridge: restore(host.paths, (Kept("k", OPENFLOW15, ()), Kept(bridge, OPENFLOW15, ())), 0.5),
], ids=["save", "restore"])


@CALLS
def test_a_bridge_that_is_not_there_is_named(host: SandboxHost, call: Call) -> None:
    with pytest.raises((NoAnswer, NotRestored), match="bridge gone .*No such file"):
        call(host, "gone")


@CALLS
@pytest.mark.parametrize("name", ["", "../k", "/tmp/x"])
def test_what_is_no_name_of_a_bridge_is_never_looked_for(host: SandboxHost, call: Call, name: str) -> None:
    with pytest.raises((AdministratorError, NotRestored), match="not the name of a bridge"):
        call(host, name)


@CALLS
def test_a_switch_that_hangs_ends_with_the_deadline(host: SandboxHost, call: Call) -> None:
    host.signal(VSWITCHD, signal.SIGSTOP)
    try:
        with pytest.raises((NoAnswer, NotRestored), match=r"for bridge k within 0\.5 s"):
            call(host, "k")
    finally:
        host.signal(VSWITCHD, signal.SIGCONT)


def test_a_version_that_is_not_allowed_any_more_is_named(host: SandboxHost) -> None:
    kept = save(host.paths, ("k",), WITHIN_S)
    host.vsctl("set", "Bridge", "k", "protocols=OpenFlow11")
    with pytest.raises(NotRestored, match="bridge k allows only OpenFlow11, .* by OpenFlow15"):
        restore(host.paths, kept, WITHIN_S)
    assert save(host.paths, ("k",), WITHIN_S)[0].version == OPENFLOW10 + 1


def test_a_flow_that_the_bridge_would_not_take_back_ends_a_save(host: SandboxHost) -> None:
    host.vsctl("set", "Bridge", "k", "protocols=OpenFlow10,OpenFlow13")
    add(host, "k", "table=9,in_port=2,actions=strip_vlan,1", version="OpenFlow10")
    host.vsctl("set", "Bridge", "k", "protocols=OpenFlow13")
    with pytest.raises(AdministratorError, match="bridge k allows only OpenFlow13, .* by OpenFlow10.*add Bridge k"):
        save(host.paths, ("k",), WITHIN_S)


def test_nothing_to_do_is_done(host: SandboxHost) -> None:
    assert save(host.paths, (), WITHIN_S) == ()
    restore(host.paths, (), WITHIN_S)
    done = []
    restore_around(host.paths, (), frozenset(), lambda: done.append(True), WITHIN_S)
    assert done == [True]


def test_what_was_refused_in_a_pause_is_said_after_it(host: SandboxHost) -> None:
    done = []
    with pytest.raises(NotRestored, match="gone"):
        restore_around(host.paths, (Kept("gone", OPENFLOW15, ()),), frozenset(["gone"]), lambda: done.append(True),
                       WITHIN_S)
    assert done == [True]
