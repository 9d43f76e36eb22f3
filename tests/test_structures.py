"""Passes merge so that each network runs at most once per view."""

import pytest

from castkd.errors import ConfigError
from castkd.structures import Pass, PseudoTargets, merge_passes


def test_merge_takes_deepest_kind_all_taps_and_any_gradient():
    merged = merge_passes(
        [
            Pass('student', 'sup', 'encode', ('a',), grad=False),
            Pass('student', 'sup', 'dense', ('b',), grad=False),
            Pass('student', 'sup', 'loss', drop_empty=True),
            Pass('student', 'sup', 'forward', ('b', 'a'), grad=False),
            Pass('teacher', 'weak', 'predict', grad=False),
        ]
    )
    assert [(request.network, request.view) for request in merged] == [
        ('teacher', 'weak'),
        ('student', 'sup'),
    ]
    assert merged[1] == Pass('student', 'sup', 'loss', ('a', 'b'), drop_empty=True)


def test_deeper_runs_serve_shallower_requests():
    kinds = ['encode', 'dense', 'forward', 'predict']
    for depth, kind in enumerate(kinds):
        for other in kinds[: depth + 1]:
            assert Pass('s', 'v', other).merge(Pass('s', 'v', kind)).kind == kind


@pytest.mark.parametrize(
    'other',
    [Pass('s', 'v', 'predict'), Pass('s', 'v', 'loss', targets=PseudoTargets('t', 'w'))],
    ids=['predict', 'other targets'],
)
def test_what_one_run_cannot_serve_is_refused(other):
    with pytest.raises(ConfigError, match='one run cannot give both'):
        Pass('s', 'v', 'loss').merge(other)


def test_unknown_kind():
    with pytest.raises(ConfigError, match="did you mean 'forward'"):
        Pass('s', 'v', 'forwards')
