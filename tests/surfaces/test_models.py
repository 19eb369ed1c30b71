import json

from polymux.surfaces.models import model_list, model_object


def test_a_model() -> None:
    assert model_object("a/b", "p", 7) == {"id": "a/b", "object": "model", "created": 7, "owned_by": "p"}


def test_the_list_keeps_its_order() -> None:
    listed = json.loads(model_list([("b", "p"), ("a", "q")], 7))
    assert listed == {"object": "list", "data": [model_object("b", "p", 7), model_object("a", "q", 7)]}
    assert json.loads(model_list([], 7)) == {"object": "list", "data": []}
