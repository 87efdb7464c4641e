"""Whether a head product may keep bfloat16 or float16 operands: where it sums in float32 and nothing is rounded before.

Products of two such values are exact in float32, so only the order of the sums differs from the product of the
widened operands, which is the reference, and what a CPU always computes.
"""

from __future__ import annotations

from functools import cache

import torch

__all__ = ["HALF_POSITIONS", "half_product", "keeps_half", "mm_widens"]

HALF = (torch.bfloat16, torch.float16)
HALF_DEVICES = ("cuda",)  # types of devices whose mm is tried
HALF_POSITIONS = 1024  # fewest hidden states of a product with narrow operands


@cache
def mm_widens(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether this torch multiplies two matrices of a dtype into a float32 one on a device: by trying it once."""
    ones = torch.ones(16, 16, dtype=dtype, device=device)
    try:
        product = torch.mm(ones, ones, out_dtype=torch.float32)
    except (TypeError, RuntimeError):  # no such argument, or none for this device
        return False
    return product.dtype == torch.float32 and bool((product == 16).all())


def keeps_half(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether W of a dtype on a device is better kept in it than widened to float32."""
    return dtype in HALF and device.type in HALF_DEVICES and mm_widens(dtype, device)


def half_product(hidden: torch.dtype, weight: torch.dtype, device: torch.device, positions: int) -> bool:
    """Whether the product of so many hidden states and W is taken as they are, with float32 sums and output.

    So it is where both are bfloat16 or both float16, on a GPU whose mm can, for at least `HALF_POSITIONS` positions.
    """
    return hidden == weight and positions >= HALF_POSITIONS and keeps_half(weight, device)
