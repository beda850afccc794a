"""What a model costs, as pure arithmetic: parameters, KV-cache bytes, FLOPs.

No tensor is built and PyTorch is not imported, so the same formulas serve a notebook, a test and the page's
widgets. Every result is an exact integer.

Beside them, for the widgets, what tensors do elsewhere in the package, one number at a time: `accounting.routing`,
`accounting.speculation`, `accounting.float8`, `accounting.policy` and `accounting.recall`.
"""

from dsmini.accounting.flops import attention_bytes, attention_flops, projection_flops
from dsmini.accounting.kv_cache import LAYOUTS, kv_cache_bytes, kv_elements, tokens_that_fit
from dsmini.accounting.parameters import ParameterCount, count_parameters

__all__ = [
    "LAYOUTS",
    "ParameterCount",
    "attention_bytes",
    "attention_flops",
    "count_parameters",
    "kv_cache_bytes",
    "kv_elements",
    "projection_flops",
    "tokens_that_fit",
]
