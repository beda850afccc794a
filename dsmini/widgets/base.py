"""Widget: an anywidget that also prints itself for the static page."""

import html
import json

import anywidget

from dsmini.widgets import bundle


def state(trait):
    """A trait that both Jupyter's model and the page's element carry."""
    return trait.tag(sync=True, page=True)


class Widget(anywidget.AnyWidget):
    """The base of the book's widgets.

    A subclass sets `module` (the name of its JavaScript file) and makes the traits that the page needs with `state`.
    In JupyterLab those traits are live, both ways; on the page they are the element's starting values.
    """

    module = None
    _css = bundle.css()

    def __init_subclass__(cls, **kwargs):
        if "module" in vars(cls):  # not the subclass that anywidget makes of each instance
            cls._esm = bundle.module(cls.module)
        super().__init_subclass__(**kwargs)

    def props(self):
        """The traits that the page needs, by name."""
        return {name: getattr(self, name) for name in sorted(self.trait_names(page=True))}

    def fallback(self):
        """HTML for a page without JavaScript: the story in a sentence, with its numbers."""
        raise NotImplementedError

    def to_html(self):
        """The page's element. Equal traits give equal text, byte for byte."""
        props = json.dumps(self.props(), sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        props = html.escape(props, quote=False).replace("'", "&#x27;")
        return f"<ds-widget name=\"{self.module}\" props='{props}'>{self.fallback()}</ds-widget>"

    def _repr_mimebundle_(self, **kwargs):
        data, metadata = super()._repr_mimebundle_(**kwargs)
        data = {**data, "text/plain": f"<dsmini widget {self.module}>", "text/html": self.to_html()}
        return data, metadata
