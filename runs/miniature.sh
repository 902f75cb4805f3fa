#!/usr/bin/env bash
# The whole paper on a laptop: traces, datasets, a tiny planner and a tiny critic from scratch, GRPO with an exact judge,
# and the table that says what each of them is worth. One seed takes about three quarters of an hour on two CPU cores.
#
#   runs/miniature.sh [SEED]       everything lands in out/miniature/seed-SEED; the same command goes on where it stopped
#
# With several seeds: runs/miniature.sh 0; runs/miniature.sh 1; runs/miniature.sh 2; the table covers all that are there.
set -euo pipefail
SEED=${1:-0}
REQUESTS=${REQUESTS:-2000}     # that the traces are made of
HELD_OUT=${HELD_OUT:-200}      # that the table is made of
STEPS=${STEPS:-}               # of each training; two are enough to try the script out
HERE=$(cd "$(dirname "$0")/miniature" && pwd)
OUT=${OUT:-out/miniature}/seed-$SEED
mkdir -p "$OUT" && cd "$OUT" && ln -sfn "$HERE/profiles" profiles
say() { printf '\n== %s (%dm %ds)\n' "$1" $((SECONDS / 60)) $((SECONDS % 60)); }
drawn() { interleaver batch "$@" || [ $? -eq 3 ]; }    # 3: some documents are partial, which is what we measure
once() { [ -e "$1" ] || "${@:2}"; }    # a step whose result is there is not done again
train() {    # TASK MODEL DATA OUT [SETTING...]
    local settings=("seed=$SEED" "${@:5}" ${STEPS:+"max_steps=$STEPS"})
    once "$4/model" interleaver train "$1" --config "$HERE/train.toml" --model "$2" --data "$3" --out "$4" --resume "${settings[@]/#/--set=}"
}

say "1. Requests, and traces of them: a planner by rules, and a critic that knows the truth but is lenient"
once requests.jsonl interleaver prompts sample --taxonomy miniature --count $((REQUESTS + HELD_OUT)) --seeds --seed "$SEED" --out requests.jsonl
[ "$(wc -l < requests.jsonl)" -eq $((REQUESTS + HELD_OUT)) ] || { echo "requests.jsonl was made for other numbers; use another OUT"; exit 1; }
head -n "$REQUESTS" requests.jsonl > train.jsonl
tail -n "$HELD_OUT" requests.jsonl > held-out.jsonl
drawn train.jsonl --out traces --profile profiles/teacher.toml --workers 6 &
drawn train.jsonl --out traces --profile profiles/teacher.toml --workers 6 > /dev/null 2>&1    # two share the work
wait

say "2. Datasets"
interleaver traces label traces --by judge --profile profiles/teacher.toml --workers 6 > /dev/null
once planner-data interleaver data planner-sft traces --prompts miniature --out planner-data
once critic-data interleaver data critic-sft traces --prompts miniature --out critic-data
once rl-data interleaver data critic-rl traces --prompts miniature --balance kinds --balance verdicts --validation 0 --out rl-data

say "3. Two tiny models from scratch, fine-tuned on answers"
make_models() {
    rm -rf models.part
    python "$HERE/make_models.py" --planner-data planner-data --critic-data critic-data --out models.part --seed "$SEED" \
        ${STEPS:+--steps "$STEPS" --pairs 100}
    mv models.part models
}
once models make_models
train sft-planner models/planner planner-data planner
train sft-critic models/critic models/sight-data critic-sight max_steps=400
train sft-critic critic-sight/model critic-data critic-sft

say "4. GRPO of the critic: each answer's prompt is drawn, and the picture judged"
train grpo-critic critic-sft/model rl-data critic-grpo

say "5. Documents for requests that nobody has seen, by each of them"
for variant in alone planner sft grpo rules exact; do
    drawn held-out.jsonl --out "held-out/$variant" --profile "profiles/$variant.toml" --workers 48
done
for critic in sft grpo rules exact; do
    interleaver traces label held-out/exact --by critic --name "$critic" --profile "profiles/$critic.toml" --workers 48
done
python "$HERE/table.py" measure --runs held-out --pool exact --critics sft grpo rules exact --out results.json
cd .. && python "$HERE/table.py" print seed-*/results.json --out table.md
say "Done"
