import pytest

from castkd.engine.references import Scope, substitute
from castkd.errors import ConfigError


def scope(**options):
    variables = {'seed': 3, 'root': 'data', 'file': '{root}/a.json', 'ratios': [1, 2]}
    outputs = {'adapt': ('checkpoint', 'split'), 'label-it': ('annotations',)}
    return Scope(variables, outputs, ('distill', 'tune'), 'distill', **options)


def test_whole_references_keep_their_type_and_others_become_text():
    value = {'a': '{seed}', 'b': ['seed{seed}', ('{ratios}', 1.5)], 'c': None}
    assert substitute(value, scope()) == {'a': 3, 'b': ['seed3', ([1, 2], 1.5)], 'c': None}


def test_a_copy_is_returned():
    value = {'a': ['{seed}']}
    substitute(value, scope())
    assert value == {'a': ['{seed}']}


def test_variables_may_refer_to_variables():
    assert substitute('{file}', scope()) == 'data/a.json'


def test_a_variable_that_refers_to_itself_is_refused():
    with pytest.raises(ConfigError, match="variable 'a' refers to itself"):
        substitute('{a}', Scope({'a': '{b}', 'b': 'x{a}'}))


def test_braces_without_a_name_are_text():
    text = 'iter_{}.pth {0} {:>4} \\d{2} {a b}'
    assert substitute(text, scope()) == text


def test_stage_outputs_stand_and_are_noted_once_in_order():
    found = scope()
    value = ['{label-it.annotations}', '{adapt.checkpoint}', '{adapt.checkpoint}']
    assert substitute(value, found) == value
    assert found.used == [('label-it', 'annotations'), ('adapt', 'checkpoint')]


@pytest.mark.parametrize(
    ('text', 'words'),
    [
        ('{sead}', ["distill: model.0: unknown reference {sead}; did you mean 'seed'?"]),
        ('{adpt.checkpoint}', ['unknown reference {adpt.checkpoint}', "did you mean 'adapt'?"]),
        ('{adapt.checkpiont}', ["stage 'adapt' has no output 'checkpiont'", "'checkpoint'"]),
        ('{adapt}', ['names no output', '{adapt.checkpoint}', '{adapt.split}']),
        ('{tune.checkpoint}', ["stage 'tune', which does not run before this one"]),
        ('{distill.checkpoint}', ["stage 'distill', which does not run before this one"]),
    ],
)
def test_wrong_references_say_where_and_what_is_near(text, words):
    with pytest.raises(ConfigError) as caught:
        substitute({'model': [text]}, scope())
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert '\n' not in message


def test_a_plain_config_says_that_no_recipe_gives_values():
    with pytest.raises(ConfigError, match=r'load_from: unknown reference .*no recipe'):
        substitute({'load_from': '{adapt.checkpoint}'}, Scope({}))
