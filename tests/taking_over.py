"""What a take-over meets, XCP-ng 8.3's own package of Open vSwitch as it starts its daemons, and how tests run it."""

import sys
from typing import Tuple

from tests.conftest import REPOSITORY

SPEC = REPOSITORY / "rpm/openvswitch-xen.spec"
OVS_CTL = "/usr/share/openvswitch/scripts/ovs-ctl"
DUMMY = "--ovs-vswitchd-options=--enable-dummy=override"
"""Where no module can be loaded."""

START = (OVS_CTL, "start", "--system-id=1", "--system-type=XCP-ng", "--system-version=8.3", "--no-mlockall",
         "--no-record-hostname")
"""With OVS_DBDIR, which has its database in the run directory."""


def ovs_start(*options: str) -> str:
    """The script that its unit starts."""
    return "#!/bin/sh\nexport OVS_DBDIR=/run/openvswitch\ntouch /run/openvswitch.booted\nexec %s\n" % " ".join(
        START + (DUMMY,) + options)


def switch_unit(script: str) -> str:
    """Its openvswitch.service, which starts that script."""
    return """[Unit]
After=syslog.target network-pre.target
Before=network.target
PartOf=network.target
[Service]
Type=forking
ExecStart=%s
ExecStop=%s stop
OOMScoreAdjust=-1000
[Install]
WantedBy=multi-user.target
""" % (script, OVS_CTL)


def sync_unit(program: str) -> str:
    """Its openvswitch-xapi-sync.service, which runs that program."""
    return """[Unit]
Requires=openvswitch.service
After=openvswitch.service
[Service]
ExecStart=%s
Restart=on-failure
RestartSec=10
[Install]
WantedBy=multi-user.target
""" % program


def steps_argv(name: str) -> Tuple[str, ...]:
    """Runs TAKE_OVER or RELEASE on the host that OVSXEN_ROOT names, and prints its phases as JSON."""
    code = ("import json, os; from pathlib import Path; from ovsxen import take_over; from ovsxen.host.paths import *\n"
            "from ovsxen.host.settings import read_settings; from ovsxen.sequence import *\n"
            "paths = paths_under(Path(os.environ.get('OVSXEN_ROOT', '/')), os.environ)\n"
            "run = Run(Host(paths, read_settings(paths)), lambda _: None)\n"
            "print(json.dumps([phase.as_json() for phase in run_steps(run, take_over.%s)]))" % name)
    return (sys.executable, "-c", code)


def end_of_watch() -> str:
    """The lines of the spec's last scriptlet that end the daemon, where ovsxen itself is gone, and leave the switch.

    The pidfile has the daemon's start time, field 22 of /proc/PID/stat, which tells it from a later process.
    """
    text = SPEC.read_text()
    begin = text.index("    if read -r pid ticks rest")
    return text[begin:text.index("\n    fi\n", begin)] + "\nfi 2>/dev/null || :\n"
