"""Keras: fit and train_on_batch differ on one device.

Expected: batch of step 3, x: the same rows.
Actual: other rows.
Why: An epoch does not end with its last row: a batch, or a step more, takes rows of the next epoch.
Exits with 1 while that is so, with 0 once it is not, with 2 after any other error.
"""

import itertools
import sys
import keras
import numpy as np

sys.excepthook = lambda *e: sys.exit(sys.__excepthook__(*e) or 2)
x = np.array([[0.12573022], [-0.13210486], [0.64042264]], "float32")
y = np.array([[0.104900114], [-0.5356694], [0.36159506]], "float32")


def train(trainer):
    model = keras.Sequential([keras.Input((1,)), keras.layers.Dense(units=1)])
    model.set_weights([np.array([[0.12573022]]), np.array([-0.13210486])])
    optimizer = keras.optimizers.SGD(0.125)
    model.compile(optimizer, keras.losses.MeanSquaredError(), steps_per_execution=2)
    if trainer == "fit":
        endless = ((x[i : i + 1], y[i : i + 1]) for i in itertools.cycle(range(3)))
        model.fit(endless, steps_per_epoch=3, verbose=0)
    else:
        for i in range(0, 3, 1):
            model.train_on_batch(x[i : i + 1], y[i : i + 1])
    return {v.name: np.ravel(v.numpy()) for v in model.weights}


due = train("train_on_batch")
got = train("fit")
differ = [n for n in got if not np.allclose(got[n], due[n], rtol=1e-6, atol=1e-06, equal_nan=True)]
for n in differ:
    print(f"{n}: {got[n]} instead of {due[n]}")
print("Keras", keras.__version__, "DIVERGES: more than 1e-06 apart" if differ else "CONFORMS")
sys.exit(1 if differ else 0)
