"""The graph as a node of a graph whose state has other names."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import TYPE_CHECKING, Any, cast

from langgraph._internal._runnable import RunnableCallable  # the only way to give a node two functions
from langgraph.runtime import Runtime

from interleaver.adapters.nesting import asks_a_person, call_config, check_can_ask, nested_context
from interleaver.agents import Critic, Planner
from interleaver.errors import BadInput, did_you_mean
from interleaver.graph.builder import build_graph
from interleaver.graph.context import Context, RunSettings
from interleaver.graph.state import RunInput, RunOutput
from interleaver.store.images import ImageStore
from interleaver.tools import ImageGenerator
from interleaver.types import Json

if TYPE_CHECKING:
    from langchain_core.runnables import Runnable


def as_node(
    *,
    input: Mapping[str, str] | Callable[[Any], RunInput],
    output: Mapping[str, str] | Callable[[RunOutput], Json],
    settings: RunSettings | None = None,
    planner: Planner | None = None,
    critic: Critic | None = None,
    generator: ImageGenerator | None = None,
    images: ImageStore | None = None,
    image_hosts: Collection[str] = (),
    name: str = "interleaver",
) -> Runnable[Any, Any]:
    """Return the graph as a node for `StateGraph.add_node`, with names of your choosing.

    The node reads and writes nothing but the keys that are named here. It works with `Send`, too, where each call has a
    state of its own.

    Args:
        input: the keys of your state from which the graph's inputs are read, by the names of `RunInput`; for example
            `{"request": "topic", "images": "photos"}`. A missing key, or None, is no input. Instead, a function of your
            state may return the inputs.
        output: the keys of your state to which the graph's outputs are written, by the names of `RunOutput`; for
            example `{"document": "article"}`. A function of the outputs may return the update of your state instead,
            for example `lambda result: {"articles": [result["document"]]}` for a key with a reducer.
        settings: settings of every run of the node; they take precedence over those in the parent's context.
        planner: writes the plan; defaults as in `build_graph`, also for the next four.
        critic: reviews each picture.
        generator: draws and edits pictures.
        images: the image store.
        image_hosts: hosts with private addresses from which pictures may be fetched.
        name: name of the graph in traces.

    Raises:
        BadInput: a name is not one of the graph's inputs or outputs.
    """
    for argument, names, schema in (("input", input, RunInput), ("output", output, RunOutput)):
        if not callable(names):
            _check_names(argument, names, schema)
    graph = build_graph(
        planner=planner, critic=critic, generator=generator, images=images, settings=settings, image_hosts=image_hosts
    ).compile(name=name)

    def read(state: object) -> RunInput:
        if callable(input):
            return input(state)
        values = {ours: _value(state, theirs) for ours, theirs in input.items()}
        return cast(RunInput, {ours: value for ours, value in values.items() if value is not None})

    def write(result: Any) -> Json:
        if callable(output):
            return output(result)
        return {theirs: result[ours] for ours, theirs in output.items() if ours in result}

    def context_of(runtime: Runtime[Any]) -> Context:
        context = nested_context(runtime.context, settings)
        if asks_a_person(context):
            check_can_ask(name)
        return context

    async def illustrate(state: Any, runtime: Runtime[Any]) -> Json:
        return write(await graph.ainvoke(read(state), call_config(), context=context_of(runtime)))

    def illustrate_synchronously(state: Any, runtime: Runtime[Any]) -> Json:
        return write(graph.invoke(read(state), call_config(), context=context_of(runtime)))

    return RunnableCallable(illustrate_synchronously, illustrate, name=name, trace=False)


def _value(state: object, key: str) -> Any:
    return state.get(key) if isinstance(state, Mapping) else getattr(state, key, None)


def _check_names(argument: str, names: Mapping[str, str], schema: Any) -> None:
    valid = list(schema.__annotations__)
    for name in names:
        if name not in valid:
            raise BadInput(
                f"{argument}: the graph has no {argument} {name!r}{did_you_mean(name, valid)}; it has "
                f"{', '.join(valid)}. Keys are the graph's names, values are those of your state"
            )
