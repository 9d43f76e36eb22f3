"""Generated street scenes: images with exact instance masks, of any size and number."""

from castkd.datasets.scenes.generate import generate_scenes, make_scene
from castkd.datasets.scenes.painter import Scene, paint_scene

__all__ = ['Scene', 'generate_scenes', 'make_scene', 'paint_scene']
