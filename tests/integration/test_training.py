"""Real trainers on a tiny Qwen3-VL: what reaches the model, what is learnt, what is written, what is told."""

import json
import os
import subprocess
import sys

import pytest
from click.testing import CliRunner
from support import REPOSITORY, SUPPORT

from interleaver.cli import main
from interleaver.training.launchers import find_launcher

pytestmark = [pytest.mark.integration, pytest.mark.filterwarnings("default")]
TEACHER = REPOSITORY / "experiments" / "miniature" / "profiles" / "teacher.toml"
QUICK = [
    "--set", "freeze_vision=false", "--set", "freeze_projector=false", "--set", "gradient_checkpointing=false",
    "--set", "precision=float32", "--set", "accumulate=1", "--set", "log_every=1", "--set", "warmup=0",
    "--set", "schedule=constant",
]  # fmt: skip


def invoke(*arguments, code=0):
    result = CliRunner().invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == code or (result.exit_code == 3 and arguments[0] == "batch"), result.output[-3000:]
    return result


def train(*arguments, code=0, frozen=()):
    """In a process of its own, as trainers leave much behind."""
    command = [sys.executable, "-m", "interleaver.cli", "train", *map(str, arguments), *QUICK]
    command += [part for change in frozen for part in ("--set", change)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    result = subprocess.run(command, capture_output=True, text=True, timeout=400, env=env)
    assert result.returncode == code, result.stderr[-4000:]
    return result


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Traces, the three datasets that trainers read, and a tiny model."""
    from datasets import load_dataset

    from interleaver.training.tiny import make_tiny

    folder = tmp_path_factory.mktemp("training")
    invoke("prompts", "sample", "--taxonomy", "miniature", "--count", 24, "--seeds", "--out", folder / "p.jsonl")
    invoke("batch", folder / "p.jsonl", "--out", folder / "runs", "--profile", TEACHER)
    invoke("traces", "label", folder / "runs", "--by", "judge", "--profile", TEACHER)
    for kind in ("planner-sft", "critic-sft", "critic-rl"):
        invoke("data", kind, folder / "runs", "--prompts", "miniature", "--out", folder / kind, "--validation", 0.2)
    rows = load_dataset("parquet", data_files=str(folder / "critic-sft/data/train-*.parquet"), split="train")
    plans = load_dataset("parquet", data_files=str(folder / "planner-sft/data/train-*.parquet"), split="train")
    turns = [turn for part in (rows, plans) for row in part for turn in row["prompt"] + row["completion"]]
    make_tiny([part["text"] or "" for turn in turns for part in turn["content"]], folder / "tiny", width=64, layers=2,
              vision_layers=2)  # fmt: skip
    return folder


def history(run):
    return [json.loads(line) for line in (run / "history.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def sft(made):
    """A short run of supervised fine-tuning."""
    out = made / "sft"
    train("sft-critic", "--data", made / "critic-sft", "--model", made / "tiny", "--out", out,
          "--set", "batch=8", "--set", "max_steps=12", "--set", "learning_rate=3e-3", "--set", "save_every=4",
          "--set", "evaluate_every=6", "--set", 'report_to=["tensorboard"]')  # fmt: skip
    return out


def test_labels_are_the_answers_tokens_and_pictures_reach_the_model(made, tmp_path):
    """Through TRL's own collator and forward pass, for a row of each verdict."""
    import torch

    from interleaver.training.config import TrainConfig
    from interleaver.training.datasets import load_data
    from interleaver.training.jobs import TrainingJob
    from interleaver.training.sft import make_trainer

    config = TrainConfig(model=str(made / "tiny"), batch=6, precision="float32", gradient_checkpointing=False)
    data = load_data(str(made / "critic-sft"), "sft-critic")
    trainer = make_trainer(TrainingJob("sft-critic", config, data, tmp_path))
    rows = [data.train[number] for number in range(6)]
    batch = trainer.data_collator([dict(row) for row in rows])
    tokenizer = trainer.processing_class.tokenizer
    for row, labels in zip(rows, batch["labels"], strict=True):
        answer = "".join(part["text"] for part in row["completion"][0]["content"])
        assert tokenizer.decode(labels[labels != -100]) == f"{answer}<|im_end|>\n"
    seen = []
    trainer.model.register_forward_pre_hook(lambda _, args, kwargs: seen.append(kwargs), with_kwargs=True)
    batch = {name: value.to(trainer.model.device) for name, value in batch.items()}
    loss, output = trainer.compute_loss(trainer.model, dict(batch), return_outputs=True)
    assert seen[0]["pixel_values"].shape == (6 * 2 * 36, 1536) and torch.isfinite(loss)
    blind = trainer.model(**{**batch, "pixel_values": torch.zeros_like(batch["pixel_values"])})
    assert (output.logits - blind.logits).abs().max() > 1e-3
    # Each picture makes its own difference: without the second one alone, answers change too.
    half = batch["pixel_values"].clone().view(12, 36, 1536)
    half[1::2] = 0
    assert (trainer.model(**{**batch, "pixel_values": half.view(-1, 1536)}).logits - output.logits).abs().max() > 1e-4


def checked(made, **settings):
    from interleaver.training.config import TrainConfig
    from interleaver.training.datasets import load_data
    from interleaver.training.preflight import check_rows

    data = load_data(str(made / "critic-sft"), "sft-critic")
    return data, check_rows(data, TrainConfig(model=str(made / "tiny"), **settings), "sft-critic")


def test_rows_have_the_lengths_that_the_trainer_sees(made, tmp_path):
    """The check counts tokens from sizes alone, the trainer's collator from the pictures themselves."""
    from interleaver.training.config import TrainConfig
    from interleaver.training.jobs import TrainingJob
    from interleaver.training.preflight import _RowChecker
    from interleaver.training.sft import make_trainer

    data, preflight = checked(made)
    assert str(preflight).startswith(f"{len(data.train)} of {len(data.train)} rows are used")
    config = TrainConfig(model=str(made / "tiny"), batch=4, precision="float32", gradient_checkpointing=False)
    trainer = make_trainer(TrainingJob("sft-critic", config, data, tmp_path))
    _, lengths = _RowChecker(trainer.processing_class, config, "sft-critic").check(data.train.select(range(4)))
    batch = trainer.data_collator([dict(data.train[number]) for number in range(4)])
    assert batch["attention_mask"].sum(dim=1).tolist() == lengths
    assert preflight.longest >= max(lengths)


def test_rows_that_cannot_be_used_are_left_out_and_counted(made):
    data, whole = checked(made)
    _, some = checked(made, max_tokens=whole.longest - 1)
    assert 0 < some.problems.total() < len(data.train)
    assert len(some.data.train) == len(data.train) - some.problems.total()
    assert f"longer than {whole.longest - 1:,} tokens" in str(some)


def test_pictures_that_no_processor_takes_are_left_out(made):
    import io

    from PIL import Image

    from interleaver.training.config import TrainConfig
    from interleaver.training.datasets import TrainingData, load_data
    from interleaver.training.preflight import check_rows

    data = load_data(str(made / "critic-sft"), "sft-critic")
    buffer = io.BytesIO()
    Image.new("RGB", (2100, 9), "white").save(buffer, "PNG")
    panorama = {"bytes": buffer.getvalue(), "path": None}

    def stretch(row, number):
        return row | {"images": [panorama, panorama]} if number < 2 else row

    rows = data.train.map(stretch, with_indices=True, features=data.train.features)
    changed = TrainingData(rows, None, data.fingerprint, data.card)
    preflight = check_rows(changed, TrainConfig(model=str(made / "tiny")), "sft-critic")
    assert preflight.problems == {"with a picture beyond 200:1": 2}


def test_a_dataset_of_which_nothing_can_be_learnt_is_refused(made, tmp_path):
    result = train("sft-critic", "--data", made / "critic-sft", "--model", made / "tiny", "--out", tmp_path / "t",
                   "--set", "max_tokens=12", "--set", "max_steps=1", code=2)  # fmt: skip
    assert "none of the" in result.stderr and "longer than 12 tokens" in result.stderr
    assert not (tmp_path / "t").exists()


def test_pictures_are_shown_at_most_at_the_size_that_is_set(made):
    from PIL import Image

    from interleaver.agents.hf_processors import load_processor

    picture = Image.new("RGB", (96, 96), "red")
    shown = {}
    for most in (None, 64 * 64):
        processor = load_processor(made / "tiny", most)
        shown[most] = processor.image_processor(images=[picture], return_tensors="pt")["pixel_values"].shape[0]
    assert shown == {None: 36, 64 * 64: 16}


def test_what_is_frozen_stays(made, tmp_path):
    from safetensors.torch import load_file

    out = tmp_path / "frozen"
    train("sft-critic", "--data", made / "critic-sft", "--model", made / "tiny", "--out", out, "--set", "batch=4",
          "--set", "max_steps=2", "--set", "learning_rate=1e-2", "--set", "evaluate_every=0",
          "--set", "image_max_pixels=9216")  # fmt: skip
    # The options of `train` come after these, so both are thawed there; here the projector alone is frozen.
    train("sft-critic", "--data", made / "critic-sft", "--model", made / "tiny", "--out", tmp_path / "two",
          "--set", "batch=4", "--set", "max_steps=2", "--set", "learning_rate=1e-2", "--set", "evaluate_every=0",
          frozen=("freeze_projector=true",))  # fmt: skip
    base, free, held = (
        load_file(path / "model.safetensors") for path in (made / "tiny", out / "model", tmp_path / "two" / "model")
    )
    changed = [{name for name in base if not base[name].equal(other[name])} for other in (free, held)]
    projector = {name for name in base if "visual.merger" in name or "deepstack_merger" in name}
    assert projector <= changed[0] and not projector & changed[1]
    assert any("visual.blocks" in name for name in changed[1])


def test_fine_tuning_learns_and_tells(sft):
    logged = history(sft)
    losses = [line["loss"] for line in logged if "loss" in line]
    assert len(losses) == 12 and losses[-1] < 0.8 * losses[0]
    assert [line["step"] for line in logged if "eval_loss" in line] == [6, 12, 12]
    assert list((sft / "checkpoints" / "runs").rglob("events.out.tfevents.*"))
    kept = json.loads((sft / "training.json").read_text())
    card = json.loads((sft.parent / "critic-sft" / "dataset.json").read_text())
    assert kept["data"]["fingerprint"] == card["fingerprint"] and kept["config"]["learning_rate"] == 3e-3
    readme = (sft / "model" / "README.md").read_text()
    assert card["fingerprint"] in readme and "eval_loss" in readme and "interleaver serve critic" in readme


def test_a_run_goes_on_from_its_last_checkpoint(made, sft, tmp_path):
    """Stopped in the middle, it ends with the same weights as one that was left alone."""
    import torch
    from safetensors.torch import load_file

    common = ["sft-critic", "--data", made / "critic-sft", "--model", made / "tiny", "--out", tmp_path / "r",
              "--set", "batch=8", "--set", "learning_rate=3e-3", "--set", "save_every=4",
              "--set", "evaluate_every=6"]  # fmt: skip
    train(*common, "--set", "max_steps=8")
    again = train(*common, "--set", "max_steps=12", code=2)
    assert "already contains a training job; give another folder, or add --resume" in again.stderr
    half = tmp_path / "r" / "checkpoints" / "checkpoint-8"
    (half / "trainer_state.json").rename(half / "gone")  # as if the disk had been full while it was written
    other = train(*common, "--set", "max_steps=12", "--set", "learning_rate=1e-3", "--resume", code=2)
    assert "learning_rate was 0.003 when this training job was started and is 0.001 now" in other.stderr
    train(*common, "--set", "max_steps=12", "--resume")
    steps = [line["step"] for line in history(tmp_path / "r") if "loss" in line]
    assert steps == [*range(1, 9), *range(5, 13)]
    one, two = (load_file(run / "model" / "model.safetensors") for run in (sft, tmp_path / "r"))
    assert all(torch.allclose(one[name], two[name], atol=1e-5) for name in one)


def test_two_processes_learn_what_one_does(made, tmp_path):
    """Data-parallel training with the same global batch has the same losses."""
    common = ["sft-critic", "--data", made / "critic-sft", "--model", made / "tiny", "--set", "max_steps=4",
              "--set", "learning_rate=3e-3", "--set", "evaluate_every=0"]  # fmt: skip
    train(*common, "--out", tmp_path / "one", "--set", "batch=8")
    train(*common, "--out", tmp_path / "two", "--set", "batch=4", "--launch", "two-cpus")
    one, two = ([line["loss"] for line in history(tmp_path / name) if "loss" in line] for name in ("one", "two"))
    assert len(one) == 4 and one == pytest.approx(two, rel=2e-3)


def test_adapters_are_written_and_merged(made, tmp_path):
    import torch
    import transformers
    from peft import PeftModel

    out = tmp_path / "lora"
    train("sft-critic", "--data", made / "critic-sft", "--model", made / "tiny", "--out", out, "--set", "batch=8",
          "--set", "max_steps=4", "--set", "method=lora", "--set", "lora.rank=4", "--set", "learning_rate=1e-2",
          "--set", "freeze_vision=true")  # fmt: skip
    load = transformers.Qwen3VLForConditionalGeneration.from_pretrained
    base, merged = load(made / "tiny"), load(out / "model")
    adapted = PeftModel.from_pretrained(load(made / "tiny"), out / "model" / "adapter").merge_and_unload()
    changed = 0
    for name, weight in merged.state_dict().items():
        assert torch.allclose(weight, adapted.state_dict()[name], atol=1e-5), name
        if not torch.equal(weight, base.state_dict()[name]):
            changed += 1
            assert "language_model" in name and "visual" not in name
    assert changed == 2 * 7


@pytest.fixture(scope="module")
def grpo(made, sft):
    out = made / "grpo"
    train("grpo-critic", "--data", made / "critic-rl", "--model", sft / "model", "--out", out, "--set", "batch=8",
          "--set", "samples=4", "--set", "max_steps=3", "--set", "max_answer=40", "--set", "evaluate_every=0",
          "--set", f"scoring.profile={TEACHER}")  # fmt: skip
    return out


def test_grpo_logs_every_part_of_the_reward(grpo):
    first = history(grpo)[0]
    for part in ("format", "accuracy", "semantics", "quality"):
        assert 0 <= first[f"rewards/{part}/mean"] <= 1, part
    assert {"scoring/done", "scoring/cached", "scoring/failed", "scoring/judge_seconds"} <= set(first)
    total = sum(
        weight * first[f"rewards/{part}/mean"]
        for part, weight in {"format": 0.5, "accuracy": 0.1, "semantics": 0.3, "quality": 0.1}.items()
    )
    assert first["reward"] == pytest.approx(total, abs=1e-6)
    assert (grpo / "model" / "model.safetensors").exists()


def test_grpo_in_two_processes_learns_what_one_does(made, sft, tmp_path):
    """With the same answers, since each process samples by itself."""
    script = SUPPORT / "canned_grpo.py"
    launch = ["-m", "accelerate.commands.launch", "--config_file", str(find_launcher("two-cpus"))]
    for name, start, batch in (("one", [], 8), ("two", launch, 4)):
        command = [sys.executable, *start, str(script)]
        command += [str(sft / "model"), str(made / "critic-rl"), str(tmp_path / name), str(batch)]
        result = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=300,
            cwd=tmp_path,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        assert result.returncode == 0, result.stderr[-3000:]
    one, two = (history(tmp_path / name)[:3] for name in ("one", "two"))
    assert any(abs(line["loss"]) > 1e-6 for line in one)
    for first, second in zip(one, two, strict=True):
        assert first["reward"] == pytest.approx(second["reward"], abs=1e-6)
        assert first["loss"] == pytest.approx(second["loss"], abs=2e-4)
        assert first["grad_norm"] == pytest.approx(second["grad_norm"], rel=2e-2)


def test_an_endpoint_that_dies_in_the_middle(made, sft, tmp_path):
    """Training goes on with neutral rewards, says so, and stops when too much fails; nothing is lost."""
    profile = tmp_path / "dead.toml"
    profile.write_text(
        TEACHER.read_text() + '\n[judge]\nbackend = "chat"\nmodel = "gone"\nbase_url = "http://127.0.0.1:9/v1"\n'
    )
    common = ["grpo-critic", "--data", made / "critic-rl", "--model", sft / "model", "--set", "batch=8",
              "--set", "samples=4", "--set", "max_steps=2", "--set", "max_answer=20", "--set", "evaluate_every=0",
              "--set", f"scoring.profile={profile}", "--set", "scoring.deadline=0.3"]  # fmt: skip
    patient = train(*common, "--out", tmp_path / "patient", "--set", "scoring.max_failed=1")
    assert "using a neutral reward because drawing or judging failed" in patient.stderr
    assert all(line["rewards/semantics/mean"] == 0.5 for line in history(tmp_path / "patient")[:2])
    assert sum(line["scoring/failed"] for line in history(tmp_path / "patient")[:2]) > 0
    strict = train(*common, "--out", tmp_path / "strict", "--set", "scoring.max_failed=0.3",
                   "--set", "max_steps=30", code=3)  # fmt: skip
    assert "of the last scoring tasks failed, more than scoring.max_failed = 0.3; the training state" in strict.stderr
    assert list((tmp_path / "strict" / "checkpoints").glob("checkpoint-*/trainer_state.json"))
    assert not (tmp_path / "strict" / "model").exists()


def test_grpo_of_the_planner(made, tmp_path):
    out = tmp_path / "planner"
    train("grpo-planner", "--data", made / "planner-sft", "--model", made / "tiny", "--out", out, "--set", "batch=4",
          "--set", "samples=4", "--set", "max_steps=1", "--set", "max_answer=20", "--set", "evaluate_every=0",
          "--set", f"scoring.profile={TEACHER}")  # fmt: skip
    first = history(out)[0]
    assert {"rewards/format/mean", "rewards/steps/mean", "rewards/document/mean"} <= set(first)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sft-planner", "--data", "{critic-sft}"], "is a critic-sft dataset; sft-planner trains on planner-sft"),
        (["sft-critic", "--data", "nowhere"], "create one with: interleaver data critic-sft RUNS"),
        (["sft-critic", "--data", "{critic-sft}", "--model", "/nowhere"], "model '/nowhere' cannot be loaded"),
        (["sft-critic", "--data", "{critic-sft}", "--config", "qwen3"], "there is no configuration 'qwen3'"),
        (["sft-critic", "--data", "{critic-sft}", "--set", "learning_rat=1"], "learning_rat"),
        (["sft-critic", "--data", "{critic-sft}", "--launch", "fsdp"], "there is no launcher 'fsdp'"),
        (
            ["grpo-critic", "--data", "{critic-rl}", "--set", "batch=6", "--set", "accumulate=1"],
            "is not a multiple of samples = 8",
        ),
        (["sft-critic", "--data", "{uneven}"], "row 1 has 1 pictures but 2 image parts in its prompt"),
        (["sft-critic", "--data", "{onesided}"], "has no accepted pictures"),
        (["sft-critic", "--data", "{critic-sft}", "--model", "{text}"], "which cannot read pictures"),
        (["sft-critic", "--data", "{critic-sft}", "--model", "{other}"], "weights that do not match its config.json"),
    ],
)
def test_what_cannot_be_used_is_told(made, tmp_path, arguments, said):
    names = {"critic-sft": made / "critic-sft", "critic-rl": made / "critic-rl"}
    wanted = " ".join(map(str, arguments))
    for name, make in (("uneven", uneven), ("onesided", onesided), ("text", text_model), ("other", other_weights)):
        if f"{{{name}}}" in wanted:
            names[name] = make(made, tmp_path / name)
    chosen = [argument.format(**{key: str(value) for key, value in names.items()}) for argument in arguments]
    if "--model" not in chosen:
        chosen += ["--model", str(made / "tiny")]
    result = invoke("train", *chosen, "--out", tmp_path / "out", code=2)
    assert said in " ".join(result.stderr.split()), result.stderr
    assert not (tmp_path / "out").exists()


def uneven(made, folder):
    """A row lost one of its pictures."""
    return changed(made, folder, lambda rows: rows[1]["images"].pop())


def onesided(made, folder):
    folder = changed(made, folder, lambda rows: None)
    card = json.loads((folder / "dataset.json").read_text())
    card["groups"]["train"] = {"rejected: colour": card["splits"]["train"]["rows"]}
    (folder / "dataset.json").write_text(json.dumps(card))
    return folder


def changed(made, folder, change):
    import shutil

    import pyarrow.parquet

    shutil.copytree(made / "critic-sft", folder)
    file = next((folder / "data").glob("train-*.parquet"))
    table = pyarrow.parquet.read_table(file)
    rows = table.to_pylist()
    change(rows)
    import pyarrow

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows, schema=table.schema), file)
    shutil.rmtree(folder / ".cache", ignore_errors=True)
    return folder


def text_model(made, folder):
    import transformers

    config = transformers.Qwen2Config(hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=1,
                                      num_key_value_heads=1, vocab_size=64)  # fmt: skip
    transformers.Qwen2ForCausalLM(config).save_pretrained(folder)
    return folder


def other_weights(made, folder):
    """The config says one thing, the weights are another's."""
    import shutil

    from safetensors.torch import load_file, save_file

    shutil.copytree(made / "tiny", folder)
    weights = load_file(folder / "model.safetensors")
    fewer = {name: weight for name, weight in weights.items() if "layers.1" not in name}
    save_file(fewer, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_a_full_disk_costs_nothing_that_was_saved(made, tmp_path):
    """The last good checkpoint survives, and the message names it."""
    out = tmp_path / "full"
    common = ["sft-critic", "--data", made / "critic-sft", "--model", made / "tiny", "--out", out, "--set", "batch=8",
              "--set", "save_every=2", "--set", "evaluate_every=0"]  # fmt: skip
    train(*common, "--set", "max_steps=2")
    saved = {file.name: file.stat().st_size for file in (out / "checkpoints" / "checkpoint-2").iterdir()}
    import resource

    limit = max(saved.values()) // 2  # the next checkpoint's weights do not fit any more
    command = [
        sys.executable,
        "-m",
        "interleaver.cli",
        "train",
        *map(str, common),
        "--set",
        "max_steps=4",
        "--resume",
        *QUICK,
    ]
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )  # fmt: skip
    assert result.returncode != 0
    assert {file.name: file.stat().st_size for file in (out / "checkpoints" / "checkpoint-2").iterdir()} == saved
    assert "checkpoint-2 is complete" in result.stderr, result.stderr[-2000:]
