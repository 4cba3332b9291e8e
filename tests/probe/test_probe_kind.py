"""Every probe that the options name exists, says what it measures, and is shown."""

from __future__ import annotations

from stillroom.probe.probe_options import PROBES
from stillroom.probe.run_probes import KINDS
from stillroom.report.probe_columns import PROBE_TABLES


def test_every_probe_is_carried_out_and_has_a_table():
    assert set(KINDS) == set(PROBES) == set(PROBE_TABLES)


def test_every_probe_follows_the_protocol(student):
    for name, probe in KINDS.items():
        assert probe.version >= 1, name
        probe.check(student.options)
        for one in probe.measurements(student):
            assert one.on, name
            assert callable(one.measure)
