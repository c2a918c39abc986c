"""Code to start a processor of a data pipeline from."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """Code with one marked place to fill in."""

    name: str
    description: str
    code: str


PLACEHOLDER = "# Add your transformation logic here"
"""The line a caller replaces."""

_DATA_PROCESSOR = f'''"""A processor: takes one item of a pipeline, returns the item it becomes."""


def process(data):
    {PLACEHOLDER}
    return data


sample = {{"id": 1, "content": "hello"}}
debug("processor called", "INFO")
__result__ = process(sample)
'''

_FILTER = f'''"""A filter: decides which items of a pipeline go on."""


def keeps(item):
    {PLACEHOLDER}
    return bool(item.get("content"))


items = [{{"id": 1, "content": "hello"}}, {{"id": 2, "content": ""}}]
kept = [item for item in items if keeps(item)]
debug(f"kept {{len(kept)}} of {{len(items)}} items", "INFO")
__result__ = {{"kept": kept, "dropped": len(items) - len(kept)}}
'''

_AGGREGATOR = f'''"""An aggregator: turns the items of a pipeline into one summary."""


def summarize(items):
    {PLACEHOLDER}
    return {{"count": len(items)}}


items = [{{"id": 1, "amount": 2.5}}, {{"id": 2, "amount": 4.0}}]
__result__ = summarize(items)
'''

TEMPLATES: tuple[Template, ...] = (
    Template(name="data_processor", description="Transforms one item at a time.", code=_DATA_PROCESSOR),
    Template(name="filter", description="Keeps some items and counts the rest.", code=_FILTER),
    Template(name="aggregator", description="Reduces all items to one summary.", code=_AGGREGATOR),
)
