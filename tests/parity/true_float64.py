"""Run another library's model in float64 from end to end.

`model.double()` is not enough: norms, rotary tables and softmax of many models cast to float32 on the way, whatever
the weights are. `TrueFloat64` changes no source: while it is active, a request for float32 means float64.
"""

import torch
from torch.overrides import TorchFunctionMode


class TrueFloat64(TorchFunctionMode):
    """Context: `.float()` and every argument torch.float32 mean float64."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function is torch.Tensor.float:
            return args[0].double()
        return function(*map(_wider, args), **{name: _wider(value) for name, value in (kwargs or {}).items()})


def _wider(argument):
    return torch.float64 if argument is torch.float32 else argument
