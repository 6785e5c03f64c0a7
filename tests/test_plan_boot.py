"""The plan of a boot, as properties."""

from typing import Dict

from hypothesis import given
from hypothesis import strategies as st

from ovsxen.ovs.ovsdb import Changes, Switch, SwitchRow
from ovsxen.plan_boot import BOOT_ID_KEY, BootPlan, Identity, Moment, plan_boot

TEXTS = st.text(min_size=1, max_size=5)
MAPS = st.dictionaries(st.sampled_from(["system-id", "hostname", "iface", BOOT_ID_KEY, "rundir"]), TEXTS)
ROWS = st.builds(SwitchRow, TEXTS, TEXTS, TEXTS, TEXTS, MAPS,
                 st.dictionaries(st.sampled_from(["flow-restore-wait", "max-idle"]), TEXTS),
                 st.integers(0, 9))
SWITCHES = st.builds(Switch, st.none() | ROWS, st.lists(TEXTS, unique=True).map(lambda names: tuple(sorted(names))),
                     st.just(("ssl:192.0.2.1:6640",)))
IDENTITIES = st.builds(Identity, *[st.text(max_size=5)] * 6, st.just((("custom", "1"),)))
MOMENTS = st.builds(Moment, TEXTS, st.booleans(), st.booleans(), st.booleans(), st.booleans())


def applied(switch: Switch, changes: Changes) -> Switch:
    """What the database makes of the changes."""
    row = switch.row or SwitchRow("", "", "", "", {}, {}, 0)
    ids: Dict[str, str] = dict(row.external_ids, **dict(changes.external_ids))
    other = {key: value for key, value in row.other_config.items() if key not in changes.drop_other_config}
    row = row._replace(external_ids=ids, other_config=other, next_cfg=row.next_cfg + changes.acknowledge,
                       **dict(changes.columns))
    return Switch(row, () if changes.purge else switch.bridges, switch.managers)


@given(SWITCHES, IDENTITIES, MOMENTS)
def test_planning_again_with_the_switch_up_changes_nothing(
        switch: Switch, identity: Identity, moment: Moment) -> None:
    first = plan_boot(switch, identity, moment)
    up = moment._replace(vswitchd_running=True, server_started=False)
    again = plan_boot(applied(switch, first.changes), identity, up)
    assert again.changes == Changes()


@given(SWITCHES, IDENTITIES, MOMENTS)
def test_a_running_switch_never_loses_its_bridges(switch: Switch, identity: Identity, moment: Moment) -> None:
    planned = plan_boot(switch, identity, moment._replace(vswitchd_running=True))
    assert not planned.changes.purge and planned.purged == ()


@given(SWITCHES, IDENTITIES, MOMENTS)
def test_bridges_are_purged_once_in_a_boot(switch: Switch, identity: Identity, moment: Moment) -> None:
    moment = moment._replace(vswitchd_running=False, always_purge=False)
    after = applied(switch, plan_boot(switch, identity, moment).changes)._replace(bridges=("new",))
    assert not plan_boot(after, identity, moment).changes.purge


@given(SWITCHES, IDENTITIES, MOMENTS)
def test_what_is_purged_is_all_that_there_is_and_is_named(
        switch: Switch, identity: Identity, moment: Moment) -> None:
    planned = plan_boot(switch, identity, moment)
    assert planned.purged == (switch.bridges if planned.changes.purge else ())
    assert planned.why


@given(SWITCHES, IDENTITIES, MOMENTS)
def test_keys_of_others_and_empty_wishes_are_never_written(
        switch: Switch, identity: Identity, moment: Moment) -> None:
    changes = plan_boot(switch, identity, moment).changes
    allowed = {"system-id", "xs-system-uuid", "rundir", BOOT_ID_KEY, "custom"}
    assert {key for key, _ in changes.external_ids} <= allowed
    assert all(value for _, value in changes.external_ids + changes.columns)
    assert set(changes.drop_other_config) <= {"flow-restore-wait"}


def plan_for(**moment: object) -> BootPlan:
    row = SwitchRow("", "", "", "", {BOOT_ID_KEY: "before"}, {}, 0)
    base = Moment("now", server_started=True, vswitchd_running=False, purged_before=False, always_purge=False)
    return plan_boot(Switch(row, ("xenbr0",), ()), Identity("", "", "", "", "", "", ()),
                     base._replace(**moment))  # type: ignore[arg-type]


def test_a_host_that_the_old_init_script_booted_keeps_its_bridges_when_ovsxen_takes_over() -> None:
    assert plan_for().changes.purge
    assert not plan_for(purged_before=True).changes.purge
    assert not plan_for(boot_id="before").changes.purge
    assert plan_for(boot_id="before", always_purge=True).changes.purge
