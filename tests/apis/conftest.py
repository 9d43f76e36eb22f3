import pytest

from tests.apis.tiny_project import make_project


@pytest.fixture(scope='session')
def project(tmp_path_factory):
    """A folder with images, annotations, configs and checkpoints; tests only read it."""
    return make_project(tmp_path_factory.mktemp('project'))
