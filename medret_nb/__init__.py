__version__ = "0.1.0"

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from medret_nb.data.studies import StudySet
    from medret_nb.evaluation.results import evaluate
    from medret_nb.phantom.phantom import make_phantom
    from medret_nb.retrieval.embeddings import embed
    from medret_nb.retrieval.search import build_index
    from medret_nb.training.loop import fit

__all__ = ["StudySet", "build_index", "embed", "evaluate", "fit", "make_phantom"]

_USUAL = {
    "StudySet": "data.studies",
    "make_phantom": "phantom.phantom",
    "fit": "training.loop",
    "embed": "retrieval.embeddings",
    "evaluate": "evaluation.results",
    "build_index": "retrieval.search",
}


def __getattr__(name: str) -> Any:
    "The usual functions, each loaded when it is first used: importing the package alone loads no library."
    if name in _USUAL:
        return getattr(import_module(f"medret_nb.{_USUAL[name]}"), name)
    raise AttributeError(f"module 'medret_nb' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_USUAL])
