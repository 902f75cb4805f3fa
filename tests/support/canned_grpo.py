"""A few steps of GRPO whose answers are given, so that any number of processes trains on the same ones.

python canned_grpo.py MODEL DATA OUT BATCH
"""

import sys
from pathlib import Path

from interleaver.profile import load_profile
from interleaver.training.config import TrainConfig
from interleaver.training.datasets import load_data
from interleaver.training.grpo import make_scorer, make_trainer
from interleaver.training.jobs import TrainingJob

SAMPLES = 4


def answer(row, number):
    """Another one for each sample of a group: right or wrong, with a better or worse prompt."""
    prompt = (row["instruction"], row["rewritten_prompt"], f"{row['instruction']} Keep everything else as it is.")
    accepted = "true" if number % 2 else "false"
    return (
        f"<think>\n{number}\n</think>\n<answer>\n"
        f'{{"previous_step_success": {accepted}, "refine_prompt": "{prompt[number % 3]}"}}\n</answer>'
    )


def main():
    model, data, out, batch = sys.argv[1:]
    config = TrainConfig(
        model=model, batch=int(batch), accumulate=1, samples=SAMPLES, max_steps=3, max_answer=80, kl=0.01,
        learning_rate=1e-3, schedule="constant", warmup=0, evaluate_every=0, log_every=1, precision="float32",
        freeze_vision=False, freeze_projector=False, gradient_checkpointing=False,
    )  # fmt: skip
    run = TrainingJob("grpo-critic", config, load_data(data, "grpo-critic"), Path(out))
    run.begin()
    trainer = make_trainer(run, make_scorer(load_profile(None), config.scoring), (96, 96))
    tokenizer = trainer.processing_class.tokenizer
    rows = {}
    generate = trainer._generate_and_score_completions

    def remember(inputs):
        rows["now"] = inputs
        return generate(inputs)

    def canned(prompt_ids, *_, **__):
        said = [answer(row, number % SAMPLES) + "<|im_end|>" for number, row in enumerate(rows["now"])]
        return [tokenizer.encode(text) for text in said], None

    trainer._generate_and_score_completions, trainer._generate_single_turn = remember, canned
    trainer.train()


if __name__ == "__main__":
    main()
