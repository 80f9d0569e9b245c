"""Choose the layers of a model that get a LoRA adapter, and state why other linear layers get none.

As with PEFT's `all-linear` (QLoRA, arXiv:2305.14314), all linear layers except the head get an adapter. Layers that PEFT cannot
wrap are left out by name. If no layer is left out, PEFT gets `all-linear`, so that the files of adapters are the same as in
earlier versions of this package.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from taskdiv_assets.language_model.faults import refuse_full

if TYPE_CHECKING:
    import torch

# In state-space layers the fused kernel reads the weight of this layer itself, so an adapter over it has no effect.
STATE_OUTPUT = "out_proj"
GROUPED = "a layer that does not multiply as a linear one does"


class Targets(NamedTuple):
    """The layers that LoRA is applied to."""

    modules: str | list[str]  # names of layers, or PEFT's keyword for all linear layers
    left_out: str  # layers that are left out, with reasons; empty if there are none


def lora_targets(model: Any, dropout: float) -> Targets:
    """Choose the layers that get an adapter, in a causal language model that is not wrapped yet.

    If one tensor contains all experts, PEFT can give them an adapter only by its keyword `all-linear`, and without dropout.
    """
    import torch
    from transformers.pytorch_utils import Conv1D

    kinds, head = (torch.nn.Linear, Conv1D), model.get_output_embeddings()
    linear = {name: layer for name, layer in model.named_modules() if isinstance(layer, kinds) and layer is not head}
    reasons: dict[str, str] = {}
    for name, layer in linear.items():
        block, _, last = name.rpartition(".")
        if why := _why_not_linear(layer):
            reasons[name] = why
        elif last == STATE_OUTPUT and hasattr(model.get_submodule(block), "A_log"):  # the state's decay, as in Mamba
            reasons[name] = "the output of a state-space layer, whose kernel reads the weight itself"
    # Parameters with three dimensions that are not convolutions contain the weights of all experts.
    stacked = (name for name, value in model.named_parameters() if value.ndim == 3 and "conv" not in name)
    experts = sorted({name.rpartition(".")[2] for name in stacked}) if dropout else []
    if not reasons and not experts:
        return Targets("all-linear", "")
    said = sorted({f"{name.rpartition('.')[2]} ({reason})" for name, reason in reasons.items()})
    if experts:
        said.append(f"{', '.join(experts)} (experts, to which `tuning.dropout` cannot be applied; use `dropout: 0`)")
    return Targets(sorted(set(linear) - set(reasons)), "; ".join(said))


def _why_not_linear(module: torch.nn.Module) -> str:
    """Return why PEFT cannot wrap a linear layer that has its own forward pass; empty if PEFT can wrap it.

    Examples are Phi-3.5-MoE's router, which returns two tensors, and DeepSeek-V4's output layer, which uses groups.
    """
    import torch
    from torch.nn.functional import linear

    is_own = type(module).__module__.startswith("transformers.models.")
    if not (is_own and isinstance(module, torch.nn.Linear)) or type(module).forward is torch.nn.Linear.forward:
        return ""
    states = torch.ones(2, module.in_features, dtype=module.weight.dtype, device=module.weight.device)
    with torch.no_grad():
        try:
            found = module(states)
        except Exception as error:  # any error of a layer for states that its model would not give it
            refuse_full(error)
            return GROUPED
        if isinstance(found, tuple):
            return "a router, which returns more than one tensor"
        expected = linear(states, module.weight, module.bias)
        is_same = found.shape == expected.shape and torch.allclose(found, expected, rtol=0.02, atol=1e-4)
        return "" if is_same else GROUPED
