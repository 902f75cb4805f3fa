"""Items of a batch."""

from interleaver.batch.prompt_list import BatchItem


def item(request, line=1, **fields):
    return BatchItem(line=line, request=request, images=[], tags={}, seed=fields.pop("seed", 0), **fields)
