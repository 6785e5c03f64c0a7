"""What is done about conf.db, as a table: from what was found, to the steps, the source and the verdict."""

from pathlib import Path
from typing import List, Optional, Tuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovsxen.ovs.confdb import Found, Source
from ovsxen.ovs.confdb_plan import Repair, plan
from ovsxen.ovs.dblog import Kind, Log, Schema
from ovsxen.ovs.generations import Beside, surplus

CONF_DB = Path("/etc/openvswitch/conf.db")
NEW, OLD = Schema("Open_vSwitch", "8.3.0", "1 2"), Schema("Open_vSwitch", "7.16.1", "3 4")
COPY = Source(Path("/etc/openvswitch/conf.db.good-000007-1-2"), 500, 9, 1000)
START = Source(CONF_DB, 300, 5, 900)
PLENTY = 1 << 40


def found(kind: Kind, fallbacks: Tuple[Source, ...] = (), conversion: str = "no", schema: Optional[Schema] = NEW,
          free_bytes: int = PLENTY, had_history: bool = False, installed: Schema = NEW) -> Found:
    log = Log(kind, "record 5", 1000, 300, 5, schema, 900)
    return Found(CONF_DB, log, installed, fallbacks, had_history, conversion, free_bytes, ())


@pytest.mark.parametrize("there, steps, source, degraded", [
    (found(Kind.GOOD), (), None, ""),
    (found(Kind.GOOD, conversion="yes", schema=OLD), (Repair.CONVERT,), None, ""),
    (found(Kind.GOOD, conversion="yes", installed=OLD), (Repair.CONVERT,), None, "OLDER"),
    (found(Kind.GOOD, conversion="yes", free_bytes=1000), (), None, "make room"),
    (found(Kind.GOOD, conversion="ovsdb-tool died of SIGILL"), (), None, "SIGILL"),
    (found(Kind.ABSENT), (Repair.CREATE,), None, ""),
    (found(Kind.ABSENT, had_history=True), (Repair.RECOVER, Repair.CREATE), None, "absent"),
    (found(Kind.ABSENT, (COPY,), had_history=True), (Repair.RECOVER,), COPY, "absent"),
    (found(Kind.DAMAGED), (Repair.RECOVER, Repair.CREATE), None, "damaged"),
    (found(Kind.DAMAGED, (START, COPY)), (Repair.RECOVER,), START, "damaged"),
    (found(Kind.DAMAGED, (COPY, START)), (Repair.RECOVER,), COPY, "damaged"),
    (found(Kind.CLUSTERED, (COPY,)), (Repair.RECOVER,), COPY, "clustered"),
    (found(Kind.FOREIGN, (COPY,), conversion="yes"), (Repair.RECOVER, Repair.CONVERT), COPY, "foreign"),
])
def test_each_finding_has_its_steps(there: Found, steps: Tuple[Repair, ...], source: Optional[Source],
                                    degraded: str) -> None:
    planned = plan(there)
    assert (planned.steps, planned.source) == (steps, source)
    assert degraded in planned.degraded and bool(planned.degraded) == bool(degraded)
    assert (planned.recovery is not None) == (Repair.RECOVER in steps)


@given(st.sampled_from(list(Kind)), st.lists(st.sampled_from([COPY, START]), unique=True).map(tuple),
       st.sampled_from(["yes", "no", "it crashed"]), st.booleans(), st.integers(0, PLENTY))
def test_a_host_with_something_to_go_back_to_never_gets_an_empty_database(
        kind: Kind, fallbacks: Tuple[Source, ...], conversion: str, had_history: bool, free_bytes: int) -> None:
    planned = plan(found(kind, fallbacks, conversion, free_bytes=free_bytes, had_history=had_history))
    if fallbacks or kind is Kind.GOOD:
        assert Repair.CREATE not in planned.steps
    if kind is not Kind.GOOD and (fallbacks or had_history):
        assert planned.degraded


def generation(number: int, cksum: str) -> Beside:
    return Beside(Path("g%d" % number), "good", number, cksum)


@given(st.lists(st.sampled_from(["1-2", "3-4", "5-6"]), max_size=9))
def test_the_newest_two_and_two_of_other_schemas_stay(cksums: List[str]) -> None:
    there = [generation(number, cksum) for number, cksum in zip(range(len(cksums), 0, -1), cksums)]
    kept = [one for one in there if one not in surplus(there)]
    assert kept[:2] == there[:2] and len(kept) <= 4
    assert all(one.cksum != there[0].cksum for one in kept[2:])
