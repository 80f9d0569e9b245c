"""The private parts of TRL and transformers that `tuning.trl_parts` relies on.

If one of these tests fails after an update, compare `trl_parts` with the new version's SFTTrainer. An override whose method was
renamed is never called. Training then makes steps in TRL's own way: slower, and with another order of examples.
"""

from __future__ import annotations

import inspect

import pytest
from transformers import Trainer
from trl import SFTConfig, SFTTrainer
from trl.trainer import utils

from taskdiv_assets.language_model.tuning.trl_parts import trainer_class


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("get_train_dataloader", []),
        ("get_batch_samples", ["epoch_iterator", "num_batches", "device"]),
        ("_clip_grad_norm", ["model"]),
        ("floating_point_ops", ["inputs"]),
        ("training_step", ["args", "kwargs"]),  # TRL wraps that of transformers
    ],
)
def test_the_methods_that_we_override_are_there_with_these_arguments(name: str, arguments: list[str]) -> None:
    assert list(inspect.signature(getattr(SFTTrainer, name)).parameters) == ["self", *arguments]
    assert name in vars(trainer_class())


def test_the_step_of_transformers_has_these_arguments() -> None:
    assert list(inspect.signature(Trainer.training_step).parameters) == [
        "self",
        "model",
        "inputs",
        "num_items_in_batch",
    ]


def test_every_override_replaces_a_method() -> None:
    own = {
        name for name in vars(trainer_class()) if callable(vars(trainer_class())[name]) and name != "__annotate_func__"
    }
    assert not [name for name in own if not hasattr(SFTTrainer, name)]


def test_the_fused_head_can_be_limited_to_log_probabilities() -> None:
    """Without this, `lean` has no effect: entropy and accuracy are computed for each token."""
    parameters = inspect.signature(utils.add_fused_lm_head).parameters
    assert {"model", "outputs"} <= set(parameters)


def test_the_choice_of_the_fused_kernel_can_be_replaced() -> None:
    """Without this, `lean` has no effect on a CPU: the head's products are made where no loss is."""
    assert list(inspect.signature(utils._use_triton).parameters) == ["device"]


def test_the_function_of_the_head_can_be_replaced() -> None:
    """Without this, `completion_head` has no effect: on a CPU the head is multiplied three times instead of twice."""
    assert list(inspect.signature(utils._ChunkedLogProbFunction.forward).parameters) == [
        "ctx", "hidden", "weight", "bias", "targets", "temperature", "chunk_size", "final_logit_softcapping", "logit_scale",
        "outputs",
    ]  # fmt: skip
    assert "_ChunkedLogProbFunction.apply(" in inspect.getsource(utils.add_fused_lm_head)


def test_the_settings_that_we_pass_are_known() -> None:
    known = {"router_aux_loss_coef", "dataset_kwargs", "max_length", "gradient_checkpointing_kwargs", "ddp_backend"}
    assert known <= set(inspect.signature(SFTConfig.__init__).parameters)
