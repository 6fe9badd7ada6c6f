"""The gallery of mistakes: choice of samples and frames, and their known factors."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from duchenne.reporting.factors import Factor, conditions
from duchenne.reporting.gallery import mistakes

GREYS = {3: 40, 4: 120, 6: 220}
"""Grey of each stored frame, by its number."""
LIGHT = Factor("light", False, pd.DataFrame({"value": ["left", "right", "none"]}))
GLASSES = Factor("has glasses", True, pd.DataFrame({"value": ["0", "1"]}))
YAW = Factor("yaw", True, pd.DataFrame({"value": ["-9 to 0", "0 to 3", "3 to 9"]}))


class Store:
    def frame_numbers(self, sample: str) -> list[int]:
        return list(GREYS)

    def frame(self, sample: str, i: int = 0) -> np.ndarray:
        return np.full((32, 32, 3), list(GREYS.values())[i], np.uint8)


def grey(uri: str) -> float:
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))).mean()


def shown(onset: object, apex: object, store: Store | None) -> list[tuple[str, float]]:
    samples = pd.DataFrame({"sample": ["s"], "label": [0], "predicted": [1], "confidence": [0.9], "factors": [None]})
    samples = samples.assign(onset=[onset], apex=[apex]).astype({"onset": "Int64", "apex": "Int64"})
    (mistake,) = mistakes(samples, ["anger", "fear"], 5, [], store)
    return [(face.frame, grey(face.uri)) for face in mistake.faces]


def test_a_micro_expression_is_shown_at_onset_and_apex():
    assert shown(3, 6, Store()) == [("onset", pytest.approx(40, abs=3)), ("apex", pytest.approx(220, abs=3))]


@pytest.mark.parametrize(("onset", "apex"), [(None, None), (3, None), (None, 6), (3, 5)])
def test_other_clips_are_shown_at_their_middle_frame(onset: object, apex: object):
    assert shown(onset, apex, Store()) == [("", pytest.approx(120, abs=3))]


def test_without_a_store_no_face_is_shown():
    assert shown(3, 6, None) == []


def test_the_most_confident_mistakes_come_first_with_what_is_known_of_them():
    samples = pd.DataFrame(
        {
            "sample": ["a", "b", "c", "d"],
            "label": [0, 0, 1, 1],
            "predicted": [1, 0, 0, 0],
            "confidence": [0.6, 0.99, 0.8, 0.7],
        }
    )
    known = [{"light": "left"}, None, {"has_glasses": 1, "yaw": 3.5}, {"light": None}]
    samples = samples.assign(onset=pd.NA, apex=pd.NA)
    samples["factors"] = [None if item is None else json.dumps(item) for item in known]
    found = mistakes(samples, ["anger", "fear"], 2, [LIGHT, GLASSES, YAW])
    assert [(m.sample, m.actual, m.predicted, m.known) for m in found] == [
        ("c", "fear", "anger", "has glasses: 1"),
        ("d", "fear", "anger", ""),
    ]
    assert conditions(samples["factors"][0], [LIGHT]) == "light: left"
    assert conditions(float("nan"), [LIGHT]) == ""
