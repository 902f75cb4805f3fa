import pytest

from interleaver.errors import BadInput
from interleaver.profile import Profile, load_profile, shipped_profiles
from interleaver.runner import make_backend


def profile(tmp_path, text):
    file = tmp_path / "p.toml"
    file.write_text(text)
    return load_profile(str(file))


def test_without_a_file_everything_has_a_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert load_profile() == Profile()
    (tmp_path / "interleaver.toml").write_text("[run]\nseed = 7\n")
    assert load_profile().run.seed == 7


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "[run]\nmax_atempts = 3",
            r"run.max_atempts: unknown field \(did you mean 'max_attempts'\?\); valid",
        ),
        (
            "[planer]\nbackend = 'x'",
            r"planer: unknown field \(did you mean 'planner'\?\); valid fields: planner",
        ),
        ("[run]\nmax_attempts = 0", r"run.max_attempts: .*greater than or equal to 1 \(it is 0\)"),
        (
            "[run]\non_exhausted = 'panic'",
            r"run.on_exhausted: .*'keep_last', 'keep_best', 'stop' or 'ask' \(it is 'panic'\)",
        ),
        ("[run\n", "is not valid TOML"),
    ],
)
def test_a_mistake_is_named_with_its_place_and_the_choices(tmp_path, text, said):
    with pytest.raises(BadInput, match=said):
        profile(tmp_path, text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[generator]\nbackend = 'sandbux'", "generator 'sandbux' is unknown; choose one of: .*sandbox"),
        (
            "[generator]\nslipps = 1",
            r"no field 'slipps' \(did you mean 'slips'\?\); valid fields: backend, concurrency, slips",
        ),
        ("[generator.slips]\nstated = 2", "generator 'sandbox': stated: .*less than or equal to 1 .it is 2"),
        ("[critic]\nmodel = 'x'", "no field 'model'; valid fields: backend"),
    ],
)
def test_a_backend_checks_its_own_settings(tmp_path, text, said):
    made = profile(tmp_path, text)
    with pytest.raises(BadInput, match=said):
        make_backend(made, text[1:].split("]")[0].split(".")[0])


def test_a_missing_profile_is_told():
    with pytest.raises(BadInput, match=r"'/nowhere\.toml' cannot be read: No such file"):
        load_profile("/nowhere.toml")


@pytest.mark.parametrize("name", shipped_profiles())
def test_every_ready_profile_can_be_used(name, monkeypatch):
    if name == "miniature":
        pytest.importorskip("transformers", reason="an extra; tests/integration uses this profile")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    monkeypatch.setenv("GEMINI_API_KEY", "x")
    profile = load_profile(name)
    for kind in ("planner", "critic", "generator"):
        assert make_backend(profile, kind)


def test_a_profile_that_is_not_there_is_told_with_the_ready_ones():
    with pytest.raises(BadInput, match=r"'gpt.toml' cannot be read: .*with the package: gemini, interleavethinker"):
        load_profile("gpt.toml")


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("postgresql://u:hunter2@h/d", "a profile must not contain secrets"),
        ("postgresql://h/d?password=hunter2", "a profile must not contain secrets"),
        ("mysql://u:hunter2@h/d", "is not a PostgreSQL address"),
    ],
)
def test_a_password_in_the_profile_is_refused_and_not_repeated(tmp_path, address, said):
    with pytest.raises(BadInput, match=said) as error:
        profile(tmp_path, f"[store]\ncheckpoints = '{address}'")
    assert "hunter2" not in str(error.value)
