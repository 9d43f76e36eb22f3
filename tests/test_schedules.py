import pytest

from castkd.errors import ConfigError
from castkd.schedules import Constant, Linear, Schedule, Window, build_schedule

LINEAR = {'type': 'Linear', 'start': 0.3, 'end': 0.07, 'steps': 90000}


@pytest.mark.parametrize(
    ('step', 'value'),
    [(0, 0.3), (1000, 0.297444), (45000, 0.185), (90000, 0.07), (100000, 0.07)],
)
def test_t21_linear(step, value):
    assert build_schedule(LINEAR)(step) == pytest.approx(value, abs=5e-7)


@pytest.mark.parametrize(('step', 'value'), [(0, 0.4), (45000, 0.303345), (90000, 0.235)])
def test_t21_half_life(step, value):
    schedule = build_schedule({'type': 'HalfLife', 'start': 0.4, 'end': 0.07, 'half_life': 90000})
    assert schedule(step) == pytest.approx(value, abs=5e-7)


def test_linear_begins_late():
    schedule = Linear(0.0, 0.1, steps=1000, begin=500)
    assert [schedule(step) for step in (0, 500, 1000, 1500, 9999)] == [0.0, 0.0, 0.05, 0.1, 0.1]


def test_window_is_zero_outside():
    assert [Window(2, begin=1, end=3)(step) for step in range(5)] == [0.0, 2.0, 2.0, 0.0, 0.0]
    assert [Window(2, begin=1)(step) for step in (0, 1, 10**9)] == [0.0, 2.0, 2.0]


def test_number_is_constant():
    schedule = build_schedule(3)
    assert schedule == Constant(3)
    assert schedule(7) == 3.0
    assert isinstance(schedule(7), float)


def test_schedule_passes_through_and_config_is_kept():
    schedule = Window(1.0)
    assert build_schedule(schedule) is schedule
    config = dict(LINEAR)
    build_schedule(config)
    assert config == LINEAR


@pytest.mark.parametrize(
    ('value', 'text'),
    [
        ('0.1', r"^objective weight: must be a number or a dict with type in .*, got '0.1'"),
        (True, 'must be a number'),
        (None, 'must be a number'),
        (float('nan'), r'objective weight: Constant: value must be .* got nan'),
        (float('inf'), 'value must be'),
        ({}, "no schedule of type None; known: 'Constant'"),
        ({'type': 'Liner'}, "no schedule of type 'Liner'; did you mean 'Linear'"),
        (
            {'type': 'Linear', 'start': 0, 'end': 1, 'step': 5},
            "no key 'step'; did you mean 'steps'",
        ),
        ({'type': 'Linear', 'start': 0, 'end': 1}, "Linear needs the key 'steps'"),
        (
            {'type': 'Linear', 'start': 0, 'end': 1, 'steps': 0},
            r'steps must be an integer in \[1, inf\)',
        ),
        ({'type': 'Linear', 'start': 0, 'end': 1, 'steps': 1.5}, 'steps must be an integer'),
        ({'type': 'Linear', 'start': 'a', 'end': 1, 'steps': 5}, "start must be .*, got 'a'"),
        ({'type': 'HalfLife', 'start': 1, 'end': 0, 'half_life': 0}, 'half_life must be'),
        ({'type': 'Window', 'value': 1, 'begin': 5, 'end': 5}, 'end must be'),
        ({'type': 'Window', 'value': 1, 'begin': -1}, 'begin must be'),
    ],
)
def test_bad_values_are_named(value, text):
    with pytest.raises(ConfigError, match=text):
        build_schedule(value, 'objective weight')


def test_a_schedule_without_a_value_cannot_be_made():
    class Nothing(Schedule):
        pass

    with pytest.raises(TypeError, match='abstract'):
        Nothing()
