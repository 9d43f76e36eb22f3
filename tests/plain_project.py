"""What tests of shipped students share: tools called as commands, and a project that has never heard of castkd."""

import shutil
import subprocess
import sys

import torch

BLOCK = """
import sys

class Block:
    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] == 'castkd':
            raise ImportError('castkd is not installed here')

sys.meta_path.insert(0, Block())
import torch
from mmengine.runner import load_checkpoint
config, checkpoint, image, out = sys.argv[1:]
"""
SEGMENTOR = """
from mmseg.apis import inference_model, init_model

model = init_model(config, checkpoint, device='cpu')
load_checkpoint(model, checkpoint, strict=True)
assert model.dataset_meta['classes'][0] == 'road'
torch.save(inference_model(model, image).seg_logits.data, out)
assert 'castkd' not in sys.modules
"""
DETECTOR = """
from mmdet.apis import inference_detector, init_detector

model = init_detector(config, checkpoint, device='cpu')
load_checkpoint(model, checkpoint, strict=True)
assert list(model.dataset_meta['classes']) == ['car']
torch.save(dict(inference_detector(model, image).pred_instances.items()), out)
assert 'castkd' not in sys.modules
"""
# A recipe on the generated scenes, in seconds: the structure is what is tested, not what it learns.
SHORT = [
    'train_dataloader.num_workers=0',
    'train_dataloader.persistent_workers=False',
    'param_scheduler.0.end=1',
    'param_scheduler.1.begin=1',
    'default_hooks.logger.interval=1',
]


def status(tool, *arguments):
    """Run a tool as its command line does, and return its exit status."""
    before = sys.argv
    sys.argv = [tool.__name__, *map(str, arguments)]
    try:
        return tool.main()
    finally:
        sys.argv = before


def call(tool, *arguments):
    """Run a tool that has to succeed."""
    assert status(tool, *arguments) == 0


def plain_answer(project, folder, image):
    """Return what ``student.py`` and ``student.pth`` say of an image, in a process that cannot import castkd.

    Args:
        project: Script of the process: :data:`SEGMENTOR` gives logits, :data:`DETECTOR` the fields of its instances.
        folder: Folder of the student.
        image: Image file.
    """
    (folder / 'plain.py').write_text(BLOCK + project)
    shutil.copy(image, folder / 'image.png')
    files = ['student.py', 'student.pth', 'image.png', 'found.pt']
    done = subprocess.run(
        [sys.executable, 'plain.py', *files],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return torch.load(folder / 'found.pt', weights_only=True)
