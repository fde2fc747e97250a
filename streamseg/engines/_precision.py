"""What a CPU computes in: what it can, what is fastest, and what a model was made for."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

from streamseg.model.openvino_core import openvino_core
from streamseg.types import UsageError

Precision = Literal["auto", "int8", "bf16", "f32"]

QUICK_INT8 = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})
"""Flags of /proc/cpuinfo: with one of them, products of 8-bit numbers are several times as fast as float32's. Without,
their sums overflow in 16 bit, so a network in int8 computes there in float32 what it would with them, only slower."""

CPUINFO = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Cpu:
    """What a CPU is good at.

    bf16: it has instructions for bfloat16; OpenVINO would imitate them, 4 to 11 times slower than float32 · int8: it
    has instructions for sums of 8-bit products
    """

    bf16: bool
    int8: bool

    @classmethod
    def here(cls) -> Cpu:
        """This machine's, as OpenVINO and the kernel tell it; where there is no /proc, int8 is not known."""
        return _cpu(frozenset(openvino_core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")))

    @property
    def words(self) -> str:
        """What it has, in the words of `precision`, the fastest first."""
        return ", ".join(name for name, has in (("int8", self.int8), ("bf16", self.bf16), ("f32", True)) if has)


@lru_cache(maxsize=1)
def _cpu(capabilities: frozenset[str]) -> Cpu:
    return Cpu(bf16="BF16" in capabilities, int8=bool(QUICK_INT8 & flags_of(CPUINFO)))


def flags_of(cpuinfo: Path) -> frozenset[str]:
    """The flags of the first core in a file laid out like /proc/cpuinfo; none where it cannot be read."""
    try:
        lines = cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return frozenset()
    return next((frozenset(line.partition(":")[2].split()) for line in lines if line.startswith("flags")), frozenset())


def chosen(wanted: Precision, cpu: Cpu, *, made_for: Collection[str]) -> Literal["int8", "bf16", "f32"]:
    """The precision to compute in; `made_for`: what a model has networks for beside bf16 and f32.

    Raises UsageError for one that is asked for by name and cannot be had.
    """
    if wanted == "auto":
        return "int8" if cpu.int8 and "int8" in made_for else "bf16" if cpu.bf16 else "f32"
    if wanted == "bf16" and not cpu.bf16:
        raise UsageError(
            f"precision: this CPU has no bfloat16 and would imitate it, 4 to 11 times slower than f32; "
            f"expected auto or one of what it has ({cpu.words}), got 'bf16'"
        )
    return wanted
