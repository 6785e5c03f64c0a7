"""The power goes, at 40 moments of a boot, a conversion, a purge, an update and a restart, or at others: cuts.py says
how they are chosen. Nothing of ours is torn, the configuration is the old or the new one, and the next boot comes up
and says truly how it is.
"""

from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Callable, Dict, Iterator, List, Optional

import pytest

from ovsxen.ovs import lease
from tests.machines import cuts, pasts, verdict
from tests.machines.configuration import IDENTITY_KEYS, Configuration, Map, is_of_update
from tests.machines.cuts import HELD, PHASES, Cut, Moment, Prepared
from tests.machines.vm import Vm
from tests.machines.world import World

SIDE_BY_SIDE = 2
CONF_DB = "/" + cuts.CONF_DB
MOMENTS = cuts.choose()
SELECTED = cuts.selection(MOMENTS)
FLAGS_OF_A_RESTART = (lease.FLOW_RESTORE_WAIT, lease.UNTIL)


class Results:
    """Everything that the tests of this module ask for, done two at a time, in the order in which it is needed."""

    def __init__(self, work: Path, world: World, saved: Callable[[], Vm], moments: List[Moment]) -> None:
        self._work, self._world = work, world
        self._pool = ThreadPoolExecutor(SIDE_BY_SIDE)
        phases = [name for name in PHASES if any(moment.phase == name for moment in moments)]
        needed = dict.fromkeys(PHASES[name].machine for name in phases)
        up = saved() if set(needed) & set(HELD) else None
        # Whatever waits for another comes after it, so that two are enough.
        self._machines = {name: self._pool.submit(self._make_machine, name, up) for name in needed}
        self._prepared = {name: self._pool.submit(self._prepare, name) for name in phases}
        self._cuts: "Dict[Moment, Future[Cut]]" = {
            moment: self._pool.submit(self._cut, number, moment) for number, moment in enumerate(moments)}

    def _make_machine(self, name: str, up: Optional[Vm]) -> Vm:
        if up is not None and name in HELD:
            vm = up.copy_saved(self._work / name).power_on()
            for command in cuts.BEFORE_AN_UPDATE:
                vm.tell(command)
            return cuts.hold_command(vm, HELD[name])
        layer = self._work / (name + "-world") / "layer"
        cuts.put_hold(layer)
        schema = self._world.rootfs.tree / cuts.SCHEMA
        if name == "older":
            schema = pasts.write_older_schema(schema, self._work / "older-schema")
        if name != "fresh":
            pasts.put_past(layer, schema)
        return cuts.hold_boot(Vm(self._world.with_layer(layer), self._work / name))

    def _prepare(self, name: str) -> Prepared:
        phase = PHASES[name]
        return cuts.rehearse(phase, self._machines[phase.machine].result(), self._work / ("rehearsal-" + name))

    def _cut(self, number: int, moment: Moment) -> Cut:
        return cuts.cut(moment, self._prepared[moment.phase].result(), self._work / ("cut-%d" % number))

    def prepared(self, phase: str) -> Prepared:
        return self._prepared[phase].result()

    def of(self, moment: Moment) -> Cut:
        return self._cuts[moment].result()

    def close(self) -> None:
        for waiting in self._cuts.values():
            waiting.cancel()
        self._pool.shutdown()
        for machine in self._machines.values():
            if machine.exception() is None:
                machine.result().remove()


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest, base: Path, world: World) -> Iterator[Results]:
    """Only the moments whose tests are run."""
    asked = [item.callspec.params["moment"] for item in request.session.items
             if isinstance(item, pytest.Function) and item.module is request.module and "moment" in item.fixturenames]
    moments = [moment for moment in asked if isinstance(moment, Moment)]
    work = base / "cuts"
    work.mkdir()
    made = Results(work, world, lambda: request.getfixturevalue("saved"), moments)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("moment", [pytest.param(moment, marks=[pytest.mark.selection] if moment in SELECTED else [])
                                    for moment in MOMENTS], ids=str)
def test_after_a_power_cut_all_is_whole_and_told_truly(results: Results, moment: Moment) -> None:
    cut = results.of(moment)
    print(cut)
    assert_whole(cut)
    assert_old_or_new(cut, results.prepared(moment.phase))
    assert_came_up(cut, results.prepared(moment.phase))


def assert_whole(cut: Cut) -> None:
    """But for the end of conf.db: ovs-vsctl's writes are not synced. That record is lost then, which is told of."""
    assert [torn for torn in cut.torn if torn.path != CONF_DB] == []
    assert bool(cut.next.seen.notes) == bool(cut.torn)
    assert cut.next.torn == ()
    assert [name for name in cut.next.staged if not is_of_update(name)] == []  # for XAPI's start to remove


def assert_old_or_new(cut: Cut, prepared: Prepared) -> None:
    """Nothing in between, on the disk that the power cut left."""
    {"boot": assert_identity_is_whole, "conversion": assert_purged_or_not, "purge": assert_purged_or_not,
     "update": assert_updated_or_not, "restart": assert_unchanged}[cut.moment.phase](cut, prepared)


def assert_identity_is_whole(cut: Cut, _: Prepared) -> None:
    """A database is there or not, and in it the one transaction of a first boot."""
    if cut.configuration is not None and cut.configuration.row:
        assert set(dict(cut.configuration.external_ids)) >= IDENTITY_KEYS
    elif cut.configuration is not None:
        assert cut.configuration.bridges == ()


def assert_purged_or_not(cut: Cut, prepared: Prepared) -> None:
    """With its marker. Managers and SSL stay in any case."""
    had, old = cut.configuration, prepared.old
    assert had is not None and old is not None
    assert (had.managers, had.ssl) == (old.managers, old.ssl)
    assert had.schema in (old.schema, prepared.new.schema)
    if had.boot_id == old.boot_id:
        assert (had.bridges, had.external_ids) == (old.bridges, old.external_ids)
    else:
        assert set(had.bridges) & set(old.bridges) == set()
        assert set(dict(had.external_ids)) >= IDENTITY_KEYS and had.schema == prepared.new.schema


def assert_updated_or_not(cut: Cut, prepared: Prepared) -> None:
    assert prepared.old != prepared.new
    assert cut.configuration in (prepared.old, prepared.new)


def assert_unchanged(cut: Cut, prepared: Prepared) -> None:
    assert cut.configuration is not None and prepared.old is not None
    assert without_flags(cut.configuration) == without_flags(prepared.old) == without_flags(prepared.new)


def without_flags(configuration: Configuration) -> Configuration:
    kept: Map = tuple(item for item in configuration.other_config if item[0] not in FLAGS_OF_A_RESTART)
    return configuration._replace(other_config=kept)


def assert_came_up(cut: Cut, prepared: Prepared) -> None:
    """With the managers that the disk had, and the installed schema."""
    verdict.assert_came_up(cut.next.seen, cut.next.then, with_xapi=False)
    assert cut.next.then.managers == (cut.configuration.managers if cut.configuration else ())
    assert cut.next.then.schema == prepared.new.schema
    assert set(dict(cut.next.then.other_config)) & set(FLAGS_OF_A_RESTART) == set()
