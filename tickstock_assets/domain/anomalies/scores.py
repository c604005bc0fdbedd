"""How good a session's bars are, from 0 to 100: what is there of what was expected, and what there is to object to.

    score = 100 x completeness x validity x plausibility x agreement

    completeness    bars present / bars expected, those that nobody could have had (halt, no trade) not expected
    validity        bars present / (bars present + rows rejected)
    plausibility    0.5 for each error, 0.8 for each warning, 0.98 for each info that was found, multiplied
    agreement       0.7 for each difference between providers that is unexplained, multiplied; 1 where none was compared

They are multiplied so that one that is 0 makes the session worthless, whatever the others are.
"""

import numpy as np
import pandas as pd

COUNTS = ["expected", "excused", "present", "rejected", "errors", "warnings", "infos", "disagreements"]
COMPONENTS = ["completeness", "validity", "plausibility", "agreement"]
LEFT_BY = {"errors": 0.5, "warnings": 0.8, "infos": 0.98}
LEFT_BY_DISAGREEMENT = 0.7
DECIMALS = 4


def session_scores(counts: pd.DataFrame) -> pd.DataFrame:
    """Return the score of each row.

    Args:
        counts: the columns of `COUNTS`, whole numbers, shape (n_sessions,); `excused` are bars expected by the clock that
            nobody could have had.

    Returns:
        A copy with the columns of `COMPONENTS`, 0 to 1, and score, 0 to 100 with two decimals.
    """
    number = {name: counts[name].to_numpy(np.float64) for name in COUNTS}
    wanted = number["expected"] - number["excused"]
    seen = number["present"] + number["rejected"]
    components = {
        "completeness": np.clip(np.divide(number["present"], wanted, out=np.ones(len(wanted)), where=wanted > 0), 0, 1),
        "validity": np.divide(number["present"], seen, out=np.ones(len(seen)), where=seen > 0),
        "plausibility": np.prod([left ** number[name] for name, left in LEFT_BY.items()], axis=0),
        "agreement": LEFT_BY_DISAGREEMENT ** number["disagreements"],
    }
    score = 100.0 * np.prod(list(components.values()), axis=0)
    rounded = {name: np.round(values, DECIMALS) for name, values in components.items()}
    return counts.assign(**rounded, score=np.round(score, 2))
