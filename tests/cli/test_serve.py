"""What `interleaver serve planner|critic|nginx` would start, and how they stop on wrong input."""

import json
import shlex
import subprocess
import sys

import pytest

from interleaver.serving.vllm import OMNI_MODELS, VllmServer, environment
from interleaver.tools.presets import presets


def interleaver(*arguments, code=0):
    command = [sys.executable, "-m", "interleaver.cli", "serve", *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert result.returncode == code, result.stderr
    return result


def dry_run(*arguments):
    return shlex.split(interleaver(arguments[0], "--dry-run", *arguments[1:]).stdout)


def after(command, flag):
    return command[command.index(flag) + 1]


def test_a_planner_is_served_with_pictures_and_room_for_the_plan():
    command = dry_run("planner", "some/weights", "--port", "8001", "--gpus", "2", "--", "--seed", "1")
    assert command[1:3] == ["-m", "vllm.entrypoints.openai.api_server"]
    assert [after(command, flag) for flag in ("--model", "--served-model-name", "--port")] == [
        "some/weights",
        "planner",
        "8001",
    ]
    assert after(command, "--tensor-parallel-size") == "2" and after(command, "--max-model-len") == "20480"
    assert json.loads(after(command, "--limit-mm-per-prompt")) == {"image": 16, "video": 0}
    assert command[-2:] == ["--seed", "1"]


def test_one_server_can_be_planner_and_critic(tmp_path):
    for name, rank in (("p", 16), ("c", 64)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "adapter_config.json").write_text(json.dumps({"r": rank}))
    p, c = tmp_path / "p", tmp_path / "c"
    command = dry_run("critic", "base/model", "--adapter", f"planner={p}", "--adapter", f"critic={c}")
    assert after(command, "--served-model-name") == "base" and after(command, "--max-lora-rank") == "64"
    assert command[command.index("--lora-modules") + 1 :][:2] == [f"planner={p}", f"critic={c}"]


def local_profile(tmp_path, **settings):
    weights = tmp_path / "critic"
    weights.mkdir()
    (weights / "config.json").write_text(json.dumps({"text_config": {"max_position_embeddings": 2048}}))
    lines = {"backend": "local", "weights": str(weights), "prompts": "miniature", "max_tokens": 200} | settings
    told = "\n".join(f"{name} = {json.dumps(value)}" for name, value in lines.items())
    (tmp_path / "mine.toml").write_text(f"[critic]\n{told}\n")
    return str(tmp_path / "mine.toml"), str(weights)


def test_the_checkpoint_of_a_profile_is_served(tmp_path):
    profile, weights = local_profile(tmp_path)
    command = dry_run("critic", "--profile", profile, "--", "--dtype", "float32")
    assert after(command, "--model") == weights and after(command, "--max-model-len") == "2048"
    assert command[-2:] == ["--dtype", "float32"]


def test_a_profile_without_a_checkpoint_is_told(tmp_path):
    error = interleaver("critic", "--dry-run", "--profile", "openai", code=2).stderr
    assert "openai.toml is 'chat'; --profile serves the weights of a backend \"local\"" in error
    error = interleaver("critic", "some/weights", "--dry-run", "--profile", "miniature", code=2).stderr
    assert "WEIGHTS are 'some/weights' and --profile is 'miniature'; give one of them" in error
    error = interleaver("critic", "--dry-run", code=2).stderr
    assert "WEIGHTS are missing: give a folder with weights or a hub id, or --profile" in error
    (tmp_path / "empty.toml").write_text("[critic]\nbackend = 'local'\n")
    error = interleaver("critic", "--dry-run", "--profile", str(tmp_path / "empty.toml"), code=2).stderr
    assert "critic 'local' needs the field 'weights', which is missing" in error
    profile, _ = local_profile(tmp_path, weights="interleaver:nobody")
    error = interleaver("critic", "--dry-run", "--profile", profile, code=2).stderr
    assert "there are no weights 'interleaver:nobody'; this package comes with: " in error


def test_a_key_travels_in_the_environment(monkeypatch):
    monkeypatch.setenv("MY_KEY", "sk-hidden")
    assert environment("MY_KEY")["VLLM_API_KEY"] == "sk-hidden"
    assert "sk-hidden" not in " ".join(VllmServer("w", ["planner"]).chat_command())


def test_a_generator_of_vllm_omni():
    command = VllmServer(OMNI_MODELS["qwen-image"], ["qwen-image"], port=8003, gpus=2).omni_command()
    assert (
        "--omni" in command and after(command, "--port") == "8003" and after(command, "--tensor-parallel-size") == "2"
    )
    assert command[command.index("serve") + 1] == "Qwen/Qwen-Image"
    assert set(OMNI_MODELS) - set(presets()) == {"omnigen2"}  # every other one runs with diffusers too
    assert all(presets()[name].weights == weights for name, weights in OMNI_MODELS.items() if name in presets())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["planner", "w", "--adapter", "planner"], "--adapter is 'planner'; give for example"),
        (["planner", "w", "--adapter", "planner=/nowhere"], "'/nowhere' is not a LoRA adapter"),
        (["planner", "w", "--port", "0"], "--port"),
        (["critic", "w", "--api-key-env", "NOT_SET"], "the variable NOT_SET (--api-key-env) is not set"),
        (["generator", "sandbox", "--set", "slips"], "--set is 'slips'; give for example --set offload=model"),
        (["generator", "flux2-klein"], "the generator 'flux2-klein' is unknown (did you mean 'flux2-klein-"),
        (
            ["generator", "sandbox", "--ray", "local", "--replicas", "3:1"],
            "--replicas is '3:1'; give a number such as 4",
        ),
        (["generator", "sandbox", "--replicas", "2"], "--replicas and --batch are for a Ray cluster; add --ray"),
        (["generator", "sandbox", "--ray", "local", "--gpu", "0"], "on Ray each replica gets one of the cluster's"),
        (
            ["generator", "sandbox", "--host", "0.0.0.0"],
            "can be reached from other machines, and nobody would need a key",
        ),
        (["planner", "w", "--host", "::"], "give --api-key-env, or add --without-key"),
        (["nginx", "http://a:99999"], "is not the address of a server"),
        (["nginx", "10.0.0.1:8000"], "is not the address of a server"),
        (["nginx", "http://a:1", "http://a:1"], "the same server is given twice"),
    ],
)
def test_wrong_input_is_told_in_one_line(arguments, said):
    error = interleaver(*arguments, code=2).stderr
    assert said in error and error.count("\n") == 1


def test_what_is_not_there_is_told():
    assert 'pip install "interleaver[vllm]"' in interleaver("planner", "w", code=2).stderr
    assert "vLLM cannot be started: /no/python" in interleaver("planner", "w", "--python", "/no/python", code=3).stderr


def test_an_nginx_configuration_names_every_server():
    config = interleaver(
        "nginx", "http://10.0.0.1:8000", "http://10.0.0.2", "http://[::1]:8000", "--port", "9000"
    ).stdout
    for server in ("10.0.0.1:8000", "10.0.0.2:80", "[::1]:8000"):
        assert f"server {server} max_fails" in config
    assert "listen 127.0.0.1:9000" in config and "proxy_next_upstream_tries 3" in config


@pytest.mark.parametrize("command", ["planner", "critic", "generator", "nginx"])
def test_every_command_has_an_example_on_a_line_of_its_own(command):
    assert f"\n  interleaver serve {command} " in interleaver(command, "--help").stdout
