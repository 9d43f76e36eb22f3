"""What common GPUs can do, for estimates of what a training costs on one."""

from __future__ import annotations

from dataclasses import dataclass

from castkd.checks import check_choice

#: Share of the peak that a training is taken to reach. An assumption: measure on the GPU to know.
UTILISATION = 0.25


@dataclass(frozen=True)
class Gpu:
    """Peak of one GPU, from NVIDIA's data sheet of it.

    Attributes:
        name: Its name.
        memory: In GB (1e9 bytes).
        single: Operations per second in float32, without tensor cores, in TFLOP/s.
        half: The same of tensor cores in float16 or bfloat16 that sum in float32, without sparsity.
    """

    name: str
    memory: int
    single: float
    half: float

    def seconds(self, operations: float, *, amp: bool) -> float:
        """Return the time that operations (two per multiply-add) take at :data:`UTILISATION` of the peak."""
        return operations / ((self.half if amp else self.single) * 1e12 * UTILISATION)


#: By name. H100 and H200 are the SXM modules, V100 is the SXM2 module.
GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu('T4', 16, 8.1, 65),
        Gpu('V100', 32, 15.7, 125),
        Gpu('A10', 24, 31.2, 125),
        Gpu('L4', 24, 30.3, 121),
        Gpu('L40S', 48, 91.6, 362),
        Gpu('RTX3090', 24, 35.6, 71),
        Gpu('RTX4090', 24, 82.6, 165),
        Gpu('A100', 80, 19.5, 312),
        Gpu('H100', 80, 67, 989),
        Gpu('H200', 141, 67, 989),
    )
}


def find_gpu(name: str) -> Gpu:
    """Return the GPU of a name.

    Raises:
        ConfigError: When it is not in the table.
    """
    check_choice('--gpu', 'name', name, GPUS)
    return GPUS[name]
