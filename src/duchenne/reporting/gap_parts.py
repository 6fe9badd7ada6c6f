"""Parts of the difference between a run and a printed value: :data:`PARTS`.

To add a part, write an entry; nothing else lists them.
"""

from __future__ import annotations

from duchenne.reporting import gap_measures as measured
from duchenne.reporting import gap_offers as offered
from duchenne.reporting.gap_question import Part

RECIPE = ("recipe.*", "model.options.*", "monitor")
WEIGHTS = ("model.pretrained.*", "init_from")
DATA = (
    "data.root", "data.limit", "data.bad_rows", "data.manifest", "data.layout", "data.rendered.*", "data.labels.*",
    "data.label_set", "data.ignore", "data.columns.*", "data.annotations", "data.apex",
)  # fmt: skip
DUPLICATES = ("protocol.near_duplicates", "protocol.hash_distance")


PARTS = (
    Part("rule", "Rule that picks the epoch", (measured.rules,)),
    Part("weights", "Weights at the start", (measured.between_runs,), offered.other_weights, WEIGHTS),
    Part("seeds", "Seed", (measured.seeds,), offered.more_seeds, ("seed", "seeds")),
    Part(
        "alignment",
        "Alignment",
        (measured.between_runs,),
        offered.other_faces,
        ("data.faces.*", "data.media"),
        loose=True,
    ),
    Part(
        "data",
        "Missing or altered data",
        (measured.incomplete, measured.between_runs),
        offered.whole_dataset,
        DATA,
        loose=True,
    ),
    Part(
        "duplicates",
        "Near-duplicates",
        (measured.duplicates, measured.between_runs),
        offered.other_duplicates,
        DUPLICATES,
    ),
    Part(
        "validation",
        "Kept for validation",
        (measured.own_validation, measured.between_runs),
        offered.without_validation,
        ("protocol.val_share",),
    ),
    Part("recipe", "Recipe and options", (measured.between_runs,), offered.readings, RECIPE, alike=True),
    Part(
        "precision",
        "Precision",
        (measured.same_precision, measured.between_runs),
        offered.other_precision,
        ("precision",),
    ),
    Part("network", "Published network", (measured.published,)),
)
"""All parts, in the order in which they are shown."""
