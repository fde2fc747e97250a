"""What is done to a network on its way to OpenVINO."""

from __future__ import annotations

import numpy as np
import openvino as ov
from openvino import opset13 as op

from streamseg.model.export import cancel_transposes


def there_and(back: list[int]) -> ov.Model:
    """A picture turned to channels last, which is an output, and turned again and made positive, which is another."""
    picture = op.parameter([1, 2, 3, 4], np.float32, name="picture")
    there = op.transpose(op.negative(picture), op.constant([0, 2, 3, 1]))
    again = op.relu(op.transpose(there, op.constant(back)))
    return ov.Model([op.result(there), op.result(again)], [picture], "network")


def transposes(network: ov.Model) -> int:
    return sum(node.get_type_name() == "Transpose" for node in network.get_ordered_ops())


def test_a_transpose_and_its_inverse_cancel_and_the_numbers_stay() -> None:
    network = there_and([0, 3, 1, 2])
    picture = np.arange(-12, 12, dtype=np.float32).reshape(1, 2, 3, 4)
    assert transposes(network) == 2

    cancel_transposes(network)

    assert transposes(network) == 1  # the one that is an output
    found = ov.compile_model(network, "CPU")([picture])
    assert np.array_equal(found[0], -picture.transpose(0, 2, 3, 1))
    assert np.array_equal(found[1], np.maximum(-picture, 0))


def test_two_transposes_that_are_no_inverses_stay() -> None:
    network = there_and([0, 2, 1, 3])
    cancel_transposes(network)
    assert transposes(network) == 2
