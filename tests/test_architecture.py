"""The dependency directions and sizes that docs/architecture.md promises, read from the sources."""

import ast
import re
import sys
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]

# Lowest first; a package may import its own layer and those before it.
# The modules that lie directly in castkd/ stand below all of them.
LAYERS = [
    {'losses', 'backbones', 'connectors', 'heads', 'architectures', 'data_configs'},
    {'teachers', 'datasets'},
    {'objectives'},
    {'distiller', 'hooks', 'evaluation', 'visualization'},
    {'engine'},
    {'apis'},
    {'tools'},
]
TORCH_ONLY = {'losses', 'connectors', 'heads'}
# One asks mmdet's own heads which of their slots they would train on, one gives SOLOv2's other targets.
KNOWS_MMDET = {'castkd.heads.slots', 'castkd.heads.solov2'}
BASE_OF_TORCH_ONLY = {
    'castkd',
    *(f'castkd.{name}' for name in ('checks', 'errors', 'registry', 'schedules', 'structures')),
}
METHODS = {'cast', 'mgd', 'lad', 'transkd', 'gid'}
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60

SOURCES = sorted(
    path.relative_to(ROOT)
    for folder in ('castkd', 'tools')
    for path in (ROOT / folder).rglob('*.py')
)
PACKAGE_SOURCES = [path for path in SOURCES if path.parts[0] == 'castkd']
TEXTS = sorted(
    path.relative_to(ROOT)
    for folder in (
        'castkd',
        'tools',
        'configs',
        'tests',
        'docs',
        'benchmarks',
        'requirements',
        '.ci',
    )
    for path in (ROOT / folder).rglob('*')
    if path.suffix in {'.py', '.md', '.sh', '.txt', ''} and path.is_file()
)
TEXTS += [
    path.relative_to(ROOT)
    for path in ROOT.glob('*')
    if path.suffix in {'.py', '.md', '.toml'} or path.name == 'Makefile'
]


@cache
def tree_of(path):
    return ast.parse((ROOT / path).read_text(encoding='utf-8'))


def module_of(path):
    parts = path.with_suffix('').parts
    return '.'.join(parts[:-1] if parts[-1] == '__init__' else parts)


MODULES = {module_of(path): path for path in SOURCES}


def resolve(module, name):
    """Return the module that holds ``name`` of ``from module import name``, behind re-exports."""
    if f'{module}.{name}' in MODULES:
        return f'{module}.{name}'
    path = MODULES.get(module)
    if path is not None and path.name == '__init__.py':
        for node in tree_of(path).body:
            if isinstance(node, ast.ImportFrom) and name in {
                alias.asname or alias.name for alias in node.names
            }:
                return node.module
    return module


def imports_of(path):
    """Return (line, module) of every import of a file, those inside functions too."""
    found = []
    for node in ast.walk(tree_of(path)):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f'{path}:{node.lineno}: relative import'
            found += [(node.lineno, resolve(node.module, alias.name)) for alias in node.names]
    return found


def package_of(module):
    """Return the subpackage of castkd (or ``tools``) of a module, '' for castkd's own modules."""
    parts = module.split('.')
    if parts[0] == 'tools':
        return 'tools'
    return parts[1] if len(parts) > 1 and (ROOT / 'castkd' / parts[1]).is_dir() else ''


def layer_of(module):
    package = package_of(module)
    return next((rank for rank, layer in enumerate(LAYERS) if package in layer), -1)


def is_method_file(module):
    return bool(METHODS & set(module.split('.')[-1].split('_')))


def ours(path):
    return [
        (line, module)
        for line, module in imports_of(path)
        if module.split('.')[0] in {'castkd', 'tools'}
    ]


def report(problems):
    assert not problems, '\n'.join(problems)


def test_every_package_has_a_layer():
    packages = {package_of(module) for module in MODULES} - {''}
    assert {'losses', 'distiller'} <= packages
    assert packages <= set().union(*LAYERS), (
        'a new package needs its place in LAYERS and docs/architecture.md'
    )


def test_every_package_is_importable_when_installed():
    folders = {path.parent for path in PACKAGE_SOURCES}
    report(
        [
            f'{folder} has no __init__.py'
            for folder in folders
            if folder / '__init__.py' not in SOURCES
        ]
    )


def test_imports_point_down():
    report(
        [
            f'{path}:{line}: {module_of(path)} imports {module}, which stands above it'
            for path in SOURCES
            for line, module in ours(path)
            if layer_of(module) > layer_of(module_of(path))
        ]
    )


def test_packages_form_no_cycle():
    graph = {}
    for path in PACKAGE_SOURCES:
        package = package_of(module_of(path))
        graph.setdefault(package, set()).update(
            {package_of(module) for _, module in ours(path)} - {package}
        )
    TopologicalSorter(graph).prepare()


def test_losses_connectors_and_heads_know_torch_only():
    allowed = {'torch', *sys.stdlib_module_names}
    problems = []
    for path in PACKAGE_SOURCES:
        package = package_of(module_of(path))
        if package not in TORCH_ONLY or module_of(path) in KNOWS_MMDET:
            continue
        for line, module in imports_of(path):
            own = module.startswith(f'castkd.{package}')
            if not (own or module in BASE_OF_TORCH_ONLY or module.split('.')[0] in allowed):
                problems.append(f'{path}:{line}: imports {module}')
    report(problems)


def test_only_method_files_import_method_files():
    problems = []
    for path in PACKAGE_SOURCES:
        importer = module_of(path)
        for line, module in ours(path):
            re_export = path.name == '__init__.py' and module.rpartition('.')[0] == importer
            if is_method_file(module) and not is_method_file(importer) and not re_export:
                problems.append(f'{path}:{line}: {importer} knows the method file {module}')
    report(problems)


def test_files_stay_short():
    lengths = {
        path: len((ROOT / path).read_text(encoding='utf-8').splitlines()) for path in SOURCES
    }
    report(
        [f'{path}: {length} lines' for path, length in lengths.items() if length > MAX_FILE_LINES]
    )


def functions_of(path):
    return [
        node
        for node in ast.walk(tree_of(path))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def length_of(node):
    """Count a function's lines without its docstring."""
    first = node.body[0]
    docstring = first.end_lineno - first.lineno + 1 if ast.get_docstring(node) else 0
    return node.end_lineno - node.lineno + 1 - docstring


def test_functions_stay_short():
    report(
        [
            f'{path}:{node.lineno}: {node.name} has {length_of(node)} lines'
            for path in SOURCES
            for node in functions_of(path)
            if length_of(node) > MAX_FUNCTION_LINES
        ]
    )


def public_functions(path):
    """Yield public functions and methods of public classes."""
    owners = [
        tree_of(path),
        *(node for node in tree_of(path).body if isinstance(node, ast.ClassDef)),
    ]
    for owner in owners:
        if not getattr(owner, 'name', '').startswith('_'):
            for node in owner.body:
                if isinstance(node, ast.FunctionDef) and not node.name.startswith('_'):
                    yield node


def lacks(node):
    arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
    bare = [
        item.arg
        for item in arguments
        if item.annotation is None and item.arg not in {'self', 'cls'}
    ]
    if node.returns is None:
        bare.append('return')
    # A setter is documented by its property.
    setter = any(
        isinstance(item, ast.Attribute) and item.attr == 'setter' for item in node.decorator_list
    )
    docstring = ast.get_docstring(node) or setter
    return ([] if docstring else ['docstring']) + [f'annotation of {name}' for name in bare]


def test_public_functions_are_documented_and_annotated():
    report(
        [
            f'{path}:{node.lineno}: {node.name} lacks {", ".join(lacks(node))}'
            for path in PACKAGE_SOURCES
            for node in public_functions(path)
            if lacks(node)
        ]
    )


def test_texts_name_no_path_of_one_machine():
    pattern = re.compile(r'(?<![\w.$}])/(?:work|tmp|root|home)/[\w.-]+')
    report(
        [
            f'{path} names {found}'
            for path in TEXTS
            if (found := pattern.findall((ROOT / path).read_text(encoding='utf-8')))
        ]
    )
