"""Train adapters for a test, over a base in 4 bits and over the same base in full. Print the results as JSON.

Run: python -m tests.language_model.four_bits FOLDER
"""

import json
import sys
from pathlib import Path

from taskdiv_assets.experiment import LabModel
from taskdiv_assets.language_model.lab_model import train
from taskdiv_assets.language_model.tuning import Base, Example, tune
from taskdiv_assets.language_model.tuning.held_out import validation_loss
from taskdiv_assets.pools.lab import held_out_items, pool_items
from taskdiv_assets.tuning_settings import Tuning

TASKS = ["copy", "first", "last", "max", "upper", "compare"]
LORA = Tuning(learning_rate=1e-2, epochs=6, rank=8, alpha=16)
NF4 = LORA.model_copy(update={"quantization": "nf4"})


def main(folder: Path) -> None:
    import torch
    from safetensors.torch import load_file

    torch.set_num_threads(1)
    examples, held_out = (
        [Example(item.item_id, item.prompt, item.response) for item in items]
        for items in (pool_items(9, TASKS, 40, 12)[:96], held_out_items("validation", 1, TASKS))
    )
    folders = [folder / name for name in ("base", "tuned", "plain", "quantised")]
    for path in folders:
        path.mkdir()
    # Widths that blocks of 64 numbers fill: on a CPU bitsandbytes takes no others.
    train(LabModel(seed=3, steps=60, hidden_size=192, layers=1), TASKS, folders[0])
    base = Base(folders[0], "float32", "sdpa")
    tuned = tune(base, examples, NF4, seed=0, out=folders[1])
    one_step = {"epochs": 1, "batch_size": 96}
    first = tune(base, examples, LORA.model_copy(update=one_step), seed=0, out=folders[2])
    first_quantised = tune(base, examples, NF4.model_copy(update=one_step), seed=0, out=folders[3])
    found = {
        "dtypes": sorted({str(value.dtype) for value in load_file(folders[1] / "adapter_model.safetensors").values()}),
        "files": [path.name for path in folders[1].iterdir()],
        "losses": tuned.losses,
        "base": validation_loss(base, None, held_out, 64),
        "tuned": validation_loss(base, folders[1], held_out, 64),
        "first": first.losses[0],
        "first_quantised": first_quantised.losses[0],
    }
    print(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
