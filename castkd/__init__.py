"""Semi-supervised distillation for dense prediction in OpenMMLab.

Importing castkd creates its registries, which import the parts when a config first names one.
A config makes ``castkd.Name`` known with
``custom_imports = dict(imports=['castkd'], allow_failed_imports=False)``.
"""

from castkd.dependencies import check_dependencies
from castkd.version import __version__

check_dependencies()

from castkd import registry  # noqa: E402 - needs the packages that the check looks for

__all__ = ['__version__', 'registry']
