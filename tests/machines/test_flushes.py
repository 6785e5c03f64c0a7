"""The power goes after every flush of one boot, with a conversion and a purge, and of one update: what is flushed is on
the disk, so these are all the disks that a power cut is sure to leave.

The emulator logs every write; after every flush the disk is put together from the one before the boot and the log, its
file system is recovered offline as a kernel would, and our files are read and checked. Each is not booted: a boot takes
half a minute, and differs only by the files that ovsxen reads. So of the disks that are alike in these, one is.
"""

import filecmp
import hashlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Optional, Tuple

import pytest

from ovsxen.sandbox import contents
from tests.machines import pasts, verdict, write_log
from tests.machines.configuration import (
    IDENTITY_KEYS,
    LOCK_FILE,
    Configuration,
    Torn,
    find_staged,
    find_torn,
    is_of_update,
    read_configuration,
)
from tests.machines.cuts import BEFORE_AN_UPDATE, CONF_DB, SCHEMA, SMALLER, UPDATE, NextBoot, boot_and_look
from tests.machines.offline import Disk
from tests.machines.vm import Setup, Vm, copy_sparsely, write_log_of
from tests.machines.world import World
from tests.machines.write_log import Write

SIDE_BY_SIDE = 2


class Logged(NamedTuple):
    """A run of a machine: its world, its log of writes, how many of them came before the update, and its last disk."""

    world: World
    log: Path
    writes: List[Write]
    before_update: int
    last_disk: Path


class Flushed(NamedTuple):
    """The disk after a flush: after how many writes, and what our files are."""

    writes: int
    digest: str
    configuration: Optional[Configuration]
    torn: Tuple[Torn, ...]
    staged: Tuple[str, ...]

    @property
    def needs_update(self) -> bool:
        """It is for XAPI to have what an update had staged removed, so the boot is one with XAPI, which knows of no
        controller.
        """
        return any(is_of_update(name) for name in self.staged)

    def __str__(self) -> str:
        """A line of a table."""
        return "%5d writes | %s | %s%s%s" % (
            self.writes, self.digest[:8], self.configuration.describe() if self.configuration else "no conf.db",
            "".join("; torn: %s (%s)" % torn for torn in self.torn), "".join("; staged: " + at for at in self.staged))


@pytest.fixture(scope="module")
def logged(base: Path, world: World) -> Iterator[Logged]:
    """A host with stale bridges and an older conf.db, booted, and its controller exchanged for another."""
    layer = base / "flushes" / "layer"
    pasts.put_past(layer, pasts.write_older_schema(world.rootfs.tree / SCHEMA, base / "flushes-schema"))
    past = world.with_layer(layer)
    vm = Vm(past, base / "flushes" / "vm", Setup(logged=True))
    try:
        vm.power_on()
        for command in BEFORE_AN_UPDATE:
            vm.tell(command)
        before_update = len(write_log.read_writes(write_log_of(vm)))
        vm.tell(UPDATE)
        vm.tell("sync")
        vm.monitor("quit")
        vm.power_cut()
        yield Logged(past, write_log_of(vm), write_log.read_writes(write_log_of(vm)), before_update, vm.disk)
    finally:
        if vm.boots:
            print(vm.describe())
        vm.remove()


@pytest.fixture(scope="module")
def flushed(base: Path, logged: Logged) -> Tuple[Flushed, ...]:
    """The disk after every flush. A flush after which our files are the same gives the same."""
    disk = base / "flushes" / "replayed.img"
    copy_sparsely(logged.world.image, disk)
    found: List[Flushed] = []
    done = 0
    for end in write_log.flush_ends(logged.writes):
        write_log.replay(logged.log, logged.writes[done:end], disk)
        done = end
        found.append(_look(disk, end, base / "flushes" / ("at-%d" % end), found))
        print(found[-1])
    disk.unlink()
    return tuple(found)


def _look(disk: Path, writes: int, work: Path, before: List[Flushed]) -> Flushed:
    work.mkdir()
    recovered = Disk(work / "recovered.img")
    copy_sparsely(disk, recovered.image)
    recovered.recover()
    files = recovered.read_out(work / "files")
    recovered.image.unlink()
    digest = _digest(files)
    if before and before[-1].digest == digest:
        return before[-1]._replace(writes=writes)
    return Flushed(writes, digest, read_configuration(files / CONF_DB), find_torn(files), find_staged(files))


def _digest(files: Path) -> str:
    """Of names and bytes."""
    digest = hashlib.sha256()
    for path in sorted(files.rglob("*")):
        if path.is_file() and not LOCK_FILE.fullmatch(path.name):
            digest.update(b"%s\0%d\0%s" % (str(path.relative_to(files)).encode(), path.stat().st_size,
                                           path.read_bytes()))
    return digest.hexdigest()


@pytest.fixture(scope="module")
def next_boots(base: Path, logged: Logged, flushed: Tuple[Flushed, ...]) -> Dict[str, NextBoot]:
    """By digest: of all that are alike, the first is booted."""
    distinct: Dict[str, Flushed] = {}
    for one in flushed:
        distinct.setdefault(one.digest, one)
    with ThreadPoolExecutor(SIDE_BY_SIDE) as pool:
        booted = dict(zip(distinct, pool.map(
            lambda one: _boot(logged, one, base / "flushes" / ("boot-%d" % one.writes)), distinct.values())))
    for digest, boot in booted.items():
        print("%s boots | %s | %s" % (digest[:8], boot.seen.status.get("verdict"), boot.then.describe()))
    return booted


def _boot(logged: Logged, one: Flushed, work: Path) -> NextBoot:
    """With a disk that is made as the log has it: the machine's own kernel recovers it."""
    work.mkdir()
    world = logged.world._replace(work=work)
    copy_sparsely(logged.world.image, work / "replayed")
    write_log.replay(logged.log, logged.writes[:one.writes], work / "replayed")
    (work / "replayed").rename(work / "disk.img")
    vm = Vm(world, work / "vm", Setup("" if one.needs_update else SMALLER, loader=logged.world.loader))
    try:
        return boot_and_look(vm, work / "then")
    finally:
        vm.remove()
        (work / "disk.img").unlink()


def test_the_log_of_a_whole_run_makes_its_disk_byte_for_byte(base: Path, logged: Logged) -> None:
    replayed = base / "flushes" / "all.img"
    copy_sparsely(logged.world.image, replayed)
    write_log.replay(logged.log, logged.writes, replayed)
    assert filecmp.cmp(str(replayed), str(logged.last_disk), shallow=False)
    replayed.unlink()


def test_after_every_flush_no_file_of_ours_is_empty_or_torn(flushed: Tuple[Flushed, ...]) -> None:
    """But for the end of conf.db, where records that nobody has asked to be on the disk (ovs-vsctl's are such) may be
    of their full length and have no content yet. What was promised precedes it: the tests below read the good part.
    """
    torn = {torn for one in flushed for torn in one.torn}
    assert {one.path for one in torn} <= {"/" + CONF_DB}, torn


def test_after_every_flush_of_a_boot_the_host_is_purged_or_not_at_all(
        logged: Logged, flushed: Tuple[Flushed, ...]) -> None:
    """With the purge's marker. Converted is another step, before it; neither comes undone."""
    of_boot = [one.configuration for one in flushed if one.writes <= logged.before_update]
    old, steps = of_boot[0], []
    for had in of_boot:
        assert had is not None and old is not None
        is_old = had.boot_id == old.boot_id
        assert (had.bridges == old.bridges) if is_old else not set(had.bridges) & set(old.bridges)
        assert is_old or set(dict(had.external_ids)) >= IDENTITY_KEYS
        # XAPI, which knows of no controller, has the update remove the manager in its own start.
        assert had.managers == (contents.MANAGER,) or not is_old and had.managers == ()
        steps.append((had.schema != pasts.OLDER, not is_old))
    assert steps == sorted(steps)
    assert steps[0] == (False, False) and steps[-1] == (True, True)


def test_after_every_flush_of_an_update_its_changes_are_there_or_none(
        logged: Logged, flushed: Tuple[Flushed, ...]) -> None:
    before = [one.configuration for one in flushed if one.writes <= logged.before_update][-1]
    during = [one.configuration for one in flushed if one.writes > logged.before_update]
    assert before != during[-1]
    assert [had for had in during if had not in (before, during[-1])] == []
    assert [had != before for had in during] == sorted(had != before for had in during)


def test_a_boot_from_each_of_these_disks_comes_up_and_tells_the_truth(
        flushed: Tuple[Flushed, ...], next_boots: Dict[str, NextBoot]) -> None:
    for one in {one.digest: one for one in reversed(flushed)}.values():
        boot = next_boots[one.digest]
        verdict.assert_came_up(boot.seen, boot.then, with_xapi=one.needs_update)
        assert bool(boot.seen.notes) == bool(one.torn), one
        assert boot.torn == () and boot.staged == (), one
        managers = one.configuration.managers if one.configuration and not one.needs_update else ()
        assert boot.then.managers == managers, one
        assert boot.then.schema != pasts.OLDER, one
