import pytest

from interleaver.errors import BadInput
from interleaver.training.config import TASKS, load_config, shipped_configs
from interleaver.training.launchers import find_launcher


def test_the_papers_settings_come_ready():
    planner, critic, rl = (load_config("qwen3-vl-8b", task) for task in ("sft-planner", "sft-critic", "grpo-critic"))
    for sft, epochs in ((planner, 3), (critic, 2)):
        assert (sft.learning_rate, sft.schedule, sft.warmup, sft.epochs) == (2e-5, "cosine", 0.1, epochs)
        assert (sft.image_max_pixels, sft.max_tokens, sft.precision) == (1048576, 16384, "bf16")
        assert sft.freeze_vision and sft.freeze_projector and sft.method == "full"
    assert (rl.samples, rl.temperature, rl.kl, rl.learning_rate, rl.max_answer) == (8, 1.0, 0.01, 2e-6, 4096)
    assert rl.scoring.deadline == 70


def test_every_ready_configuration_fits_every_task():
    for name in shipped_configs():
        for task in TASKS:
            assert load_config(name, task).model


def test_a_tasks_table_and_changes_override(tmp_path):
    toml = tmp_path / "c.toml"
    toml.write_text('model = "m"\nlora = {rank = 8}\n[sft-critic]\nlora = {alpha = 4}\nepochs = 2\n')
    critic = load_config(str(toml), "sft-critic", {"lora.dropout": 0.5, "seed": 3})
    assert (critic.model, critic.lora.rank, critic.lora.alpha, critic.lora.dropout) == ("m", 8, 4, 0.5)
    assert (critic.epochs, critic.seed) == (2, 3)
    assert load_config(str(toml), "sft-planner").epochs == 1
    yaml = tmp_path / "c.yaml"
    yaml.write_text("model: m\nlora:\n  rank: 8\nsft-critic:\n  epochs: 2\n  lora: {alpha: 4}\n")
    pytest.importorskip("yaml")
    assert load_config(str(yaml), "sft-critic") == load_config(str(toml), "sft-critic")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("learning_rat = 1", "learning_rat"),
        ("learning_rate = -1", "learning_rate"),
        ('precision = "fp8"', "precision"),
        ("[sft-critic]\nlora = {rnk = 1}", "rnk"),
        ("samples = 1", "samples"),
        ("model = [", "is not valid"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, text, said):
    (tmp_path / "c.toml").write_text(text)
    with pytest.raises(BadInput, match=said):
        load_config(str(tmp_path / "c.toml"), "sft-critic")


def test_missing_files_are_told():
    with pytest.raises(BadInput, match="there is no configuration 'qwen3-vl-8'.*qwen3-vl-8b"):
        load_config("qwen3-vl-8", "sft-critic")
    with pytest.raises(BadInput, match=r"there is no launcher 'fsdp'.*fsdp2, nodes-fsdp2, one-gpu, two-cpus, zero3"):
        find_launcher("fsdp")
    assert find_launcher("zero3").name == "zero3.yaml"
