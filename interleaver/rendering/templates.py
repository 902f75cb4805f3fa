"""Rendering of this package's Jinja templates."""

from __future__ import annotations

from functools import cache
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined


@cache
def _environment(package: str, is_html: bool) -> Environment:
    return Environment(
        loader=PackageLoader(package),
        autoescape=is_html,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=not is_html,
    )


def render_template(package: str, name: str, **values: Any) -> str:
    """Render a template; values in HTML templates are escaped.

    Args:
        package: package whose folder `templates` contains the template.
        name: file name of the template; a name that ends in `.html` makes it HTML.
        values: variables of the template.
    """
    return _environment(package, name.endswith(".html")).get_template(name).render(**values)
