"""What every loss promises, whatever it computes. Subclass :class:`LossContract` once per loss."""

import contextlib

import pytest
import torch

from castkd.errors import CastkdError


class LossContract:
    """Promises of a loss module; a subclass named ``Test...`` says how to build and call it.

    Attributes:
        trained: Names of the inputs that receive a gradient.
        targets: Names of the inputs that never do, although they are floating.
    """

    trained = ('student',)
    targets = ('teacher',)

    def build(self):
        """Return a fresh loss whose result does not depend on chance."""
        raise NotImplementedError

    def inputs(self):
        """Return small random keyword inputs, float32 on the CPU."""
        raise NotImplementedError

    def bad_calls(self):
        """Return (changed inputs, text of the error) pairs; the text is a regular expression."""
        raise NotImplementedError

    def moved(self, device, dtype, requires_grad=()):
        values = {}
        for name, value in self.inputs().items():
            if torch.is_tensor(value):
                value = value.to(device, dtype if value.is_floating_point() else None)
                value = value.detach().requires_grad_(name in requires_grad)
            values[name] = value
        return values

    def test_smoke(self, device, dtype):
        loss = self.build().to(device)(**self.moved(device, dtype))
        assert loss.shape == ()
        assert loss.dtype == dtype
        assert loss.device.type == device.type
        assert loss.isfinite()
        assert loss > 0

    def test_gradient_reaches_the_trained_inputs_alone(self, device):
        inputs = self.moved(device, torch.float32, self.trained + self.targets)
        self.build().to(device)(**inputs).backward()
        for name in self.trained:
            assert inputs[name].grad.isfinite().all(), name
            assert inputs[name].grad.any(), name
        for name in self.targets:
            assert inputs[name].grad is None or not inputs[name].grad.any(), name

    def test_gradcheck(self):
        inputs = self.moved('cpu', torch.float64, self.trained)
        loss = self.build().double()

        def call(*values):
            return loss(**{**inputs, **dict(zip(self.trained, values, strict=True))})

        assert torch.autograd.gradcheck(call, [inputs[name] for name in self.trained])

    def test_no_gradient_wanted(self):
        loss = self.build()
        expected = loss(**self.moved('cpu', torch.float32, self.trained)).detach()
        with torch.inference_mode():
            torch.testing.assert_close(loss(**self.moved('cpu', torch.float32)), expected)

    @pytest.mark.parametrize('half', [torch.bfloat16, torch.float16], ids=['bf16', 'fp16'])
    @pytest.mark.parametrize('autocast', [False, True], ids=['plain', 'autocast'])
    def test_half_precision_is_computed_in_float32(self, device, half, autocast):
        rounded = {
            name: value.to(half).float() if _is_floating(value) else value
            for name, value in self.moved(device, torch.float32).items()
        }
        loss = self.build().to(device)
        expected = loss(**rounded)
        given = {
            name: value.to(half) if _is_floating(value) else value
            for name, value in rounded.items()
        }
        for name in self.trained:
            given[name].requires_grad_()
        context = torch.autocast(device.type, half) if autocast else contextlib.nullcontext()
        with context:
            actual = loss(**given)
        assert actual.dtype == torch.float32
        torch.testing.assert_close(actual, expected)
        actual.backward()
        for name in self.trained:
            assert given[name].grad.dtype == half
            assert given[name].grad.isfinite().all()

    def test_wrong_input_is_named(self):
        for changes, text in self.bad_calls():
            with pytest.raises(CastkdError, match=text):
                self.build()(**{**self.inputs(), **changes})

    def test_repr_names_the_options(self):
        text = repr(self.build())
        assert type(self.build()).__name__ in text
        assert '\n' not in text


def _is_floating(value):
    return torch.is_tensor(value) and value.is_floating_point()
