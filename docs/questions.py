"""The questions of `questions.md` as data: what was asked, where, what was wrong, and the lines that cure it.

This is the one place for all of it: `make.py` writes the page from here, and `tests/quality/test_questions.py` takes
from here which cause a loop has to be given, which side is wrong, and which lines make it conform. The loops are
written anew at a small size in `tests/quality/loops/asked_*.py`; they have the structure of what was asked about.

A thread is linked only where its address and its text have been seen. What is said of it is what its text says; where
it ends without an answer, the answer is this project's.
"""
# ruff: noqa: INP001 - beside the pages, not a package

from __future__ import annotations

from dataclasses import dataclass

GITHUB = "https://github.com"

LOOP, TRAIN_STEP, FIT, NOBODY = "your loop", "your `train_step`", "`fit`", "neither"
"""Who is wrong."""


@dataclass(frozen=True)
class Question:
    """A question, and its answer.

    Attributes:
        name: its name, and that of the function with the lines.
        asks: the question, in a sentence.
        threads: where it was asked, as in `keras-team/keras#16906`.
        wrong: what was wrong, in a sentence or two.
        side: who is wrong.
        cause: the cause that a verdict names; None where everything conforms.
        instead: (a line of the loop, what stands there in a right one), which may be several lines or none.
        cure: what to do, where no line says it.
    """

    name: str
    asks: str
    threads: tuple[str, ...]
    wrong: str
    side: str
    cause: str | None
    instead: tuple[tuple[str, str], ...] = ()
    cure: str = ""


def address(thread: str) -> str:
    """The address of a thread."""
    repository, _, number = thread.partition("#")
    return f"{GITHUB}/{repository}/issues/{number}"


QUESTIONS: dict[str, tuple[Question, ...]] = {
    "My loop learns less than fit": (
        Question(
            "transfer_learning",
            "Why is fine-tuning a pretrained model worse in my loop?",
            ("tensorflow/tensorflow#31184", "tensorflow/tensorflow#28028"),
            "The model has batch normalization, and a model that is called without `training` infers.",
            LOOP,
            "training_flag_false",
            (("predictions = model(images)", "predictions = model(images, training=True)"),),
        ),
        Question(
            "flat_labels",
            "Why does my regression not converge with `GradientTape`?",
            ("tensorflow/tensorflow#28901",),
            "Labels of shape `(n,)` minus predictions of shape `(n, 1)` are n times n differences.",
            LOOP,
            "label_shape_broadcast",
            (
                (
                    "loss = tf.reduce_mean(tf.square(y - y_pred))",
                    "loss = tf.reduce_mean(tf.square(y[:, tf.newaxis] - y_pred))",
                ),
            ),
        ),
        Question(
            "train_step_of_a_classifier",
            "Why do loss and accuracy differ with my own `train_step`?",
            ("keras-team/keras#16906",),
            "A loss of one's own has no penalties of the regularizers in it. The warning about `from_logits=True` on a"
            " softmax leads nowhere: Keras takes the logits from behind it.",
            TRAIN_STEP,
            "regularization_omitted",
            (("loss = loss_fn(labels, predictions)", "loss = loss_fn(labels, predictions) + sum(self.losses)"),),
        ),
        Question(
            "several_terms",
            "Are kernel regularizers used if I add up the terms of the loss by hand?",
            ("hunglc007/tensorflow-yolov4-tflite#369", "tensorflow/tensorflow#21237"),
            "They are not: the sum of the terms is all that is differentiated.",
            LOOP,
            "regularization_omitted",
            (("total_loss = box_loss + conf_loss", "total_loss = box_loss + conf_loss + sum(model.losses)"),),
        ),
        Question(
            "mask_by_hand",
            "By what is the loss of padded sequences divided?",
            ("tensorflow/tensorflow#39146", "tensorflow/tensorflow#34491"),
            "In Keras 3 by the number of steps that are not masked; a mean by hand counts the padding too.",
            LOOP,
            "mask_ignored",
            (
                (
                    "loss = tf.reduce_mean(words * mask)",
                    "loss = tf.reduce_sum(words * mask) / tf.reduce_sum(mask)",
                ),
            ),
        ),
        Question(
            "mask_by_sentence",
            "Is the mean over each sentence, and then over the sentences, the same?",
            ("lsdefine/attention-is-all-you-need-keras#20",),
            "It is not: a word of a short sentence counts more.",
            LOOP,
            "loss_reduced_over_wrong_axis",
            (
                (
                    "loss = tf.reduce_sum(words * mask, -1) / tf.reduce_sum(mask, -1)",
                    "loss = tf.reduce_sum(words * mask) / tf.reduce_sum(mask)",
                ),
            ),
        ),
        Question(
            "weighted_average",
            "Why is my weighted loss not the one that Keras has?",
            ("keras-team/keras#19740", "keras-team/keras#13329"),
            "Keras divides the weighted losses by the number of rows, not by the sum of the weights. If the sum is"
            ' meant, give `fit` a loss with `reduction="mean_with_sample_weight"`.',
            LOOP,
            "sample_weight_normalization",
            (
                (
                    "loss = tf.reduce_sum(score_array * sample_weight) / tf.reduce_sum(sample_weight)",
                    "loss = tf.reduce_mean(score_array * sample_weight)",
                ),
            ),
        ),
        Question(
            "class_weight_in_a_train_step",
            "How does a `train_step` get at `class_weight`?",
            ("tensorflow/tensorflow#43902",),
            "`fit` hands over a weight a row as the third part of the data, and a loss of one's own has to use it.",
            TRAIN_STEP,
            "class_weight_ignored",
            (
                ("x, y, *_ = data", "x, y, class_weight = data"),
                ("grade_loss = tf.reduce_mean(losses)", "grade_loss = tf.reduce_mean(class_weight * losses)"),
            ),
        ),
        Question(
            "loss_weights_in_a_train_step",
            "How do I use `loss_weights` in a custom `fit`?",
            ("keras-team/keras#17260",),
            "What `compile` is given counts in `self.compute_loss`, and not in a sum of one's own.",
            TRAIN_STEP,
            "loss_weights_ignored",
            (("loss = losses[0] + losses[1]", "loss = losses[0] + 0.25 * losses[1]"),),
        ),
        Question(
            "loss_as_python_numbers",
            "Why are the gradients None?",
            ("tensorflow/tensorflow#30190", "tensorflow/tensorflow#51927"),
            "`float()` and NumPy take numbers out of the tape, and nothing leads back to the weights.",
            LOOP,
            "raises_in_one_arm",
            (
                (
                    "losses = [float(loss_fn(y[i : i + 1], y_[i : i + 1])) for i in range(y.shape[0])]",
                    "losses = loss_fn(y, y_)",
                ),
                ("return tf.convert_to_tensor(np.mean(losses), dtype=tf.float32)", "return tf.reduce_mean(losses)"),
            ),
        ),
        Question(
            "with_constraints",
            "Does a model with constraints train differently with `GradientTape`?",
            ("keras-team/keras#19341",),
            "It does not, from the same weights: what differed was that each model was initialized by itself, and that"
            " one was compiled with XLA.",
            NOBODY,
            None,
        ),
    ),
    "What is reported is not what was trained": (
        Question(
            "loss_returned_by_a_train_step",
            "Why does the history not have what my `train_step` returns?",
            ("keras-team/keras-core#485", "tensorflow/recommenders#585"),
            "In Keras 3 an epoch's numbers are those of the model's metrics. A loss that is only returned leaves the"
            " metric of that name at 0; under another name it is that of the last batch.",
            TRAIN_STEP,
            "metric_not_updated",
            (
                (
                    'return {"loss": loss}',
                    """for metric in self.metrics:
    if metric.name == "loss":
        metric.update_state(loss, sample_weight=keras.ops.shape(x)[0])
return {metric.name: metric.result() for metric in self.metrics}""",
                ),
            ),
        ),
        Question(
            "mean_over_batches",
            "Why is the loss of an epoch another one if the last batch is smaller?",
            ("tensorflow/tensorflow#38596", "tensorflow/tensorflow#27993"),
            "In a plain mean over the batches, a row of the smaller one counts more.",
            LOOP,
            "epoch_loss_unweighted",
            (("total += float(loss)", "total += float(loss) * len(x)"), ("count += 1", "count += len(x)")),
        ),
        Question(
            "metrics_through_all_epochs",
            "Is this the right use of `tf.metrics`?",
            ("lucasjinreal/tfboys#1",),
            "A metric that is made before the epochs and never reset is about all rows since the training began.",
            LOOP,
            "metric_not_reset",
            (
                (
                    "for _ in range(epochs):",
                    "for _ in range(epochs):\n    train_loss.reset_state()\n    train_accuracy.reset_state()",
                ),
            ),
        ),
        Question(
            "validation_in_training_mode",
            "Why does the validation loss behave strangely in my loop?",
            ("tensorflow/tensorflow#33771",),
            "Validation was in training mode, so that it was normalized by its own batches.",
            LOOP,
            "evaluation_in_training_mode",
            (
                (
                    "val_loss(loss_fn(y, model(x, training=True)))",
                    "val_loss(loss_fn(y, model(x, training=False)))",
                ),
            ),
        ),
    ),
    "Data, schedules, accumulation, precision": (
        Question(
            "whole_batches_of_arrays",
            "Why does the same model do differently in a loop over slices of arrays?",
            ("tensorflow/tensorflow#41957",),
            "`int(len(x) / batch_size)` leaves the rows of the last, smaller batch out.",
            LOOP,
            "partial_batch_dropped",
            (
                ("n_batches = int(len(x) / batch_size)", "n_batches = -(-len(x) // batch_size)"),
                ("loss_t += loss", "loss_t += loss * len(curr)"),
                ("history.append(float(loss_t) / n_batches)", "history.append(float(loss_t) / len(x))"),
            ),
        ),
        Question(
            "shuffled_by_hand",
            "Why do `fit` and a generator of the same rows differ?",
            ("keras-team/keras#13521",),
            "They shuffle by themselves, so the same rows come in another order; everything else is the same.",
            LOOP,
            "data_order_differs",
            cure="To compare, shuffle neither: `model.fit(x, y, shuffle=False)`.",
        ),
        Question(
            "scheduler_of_fit",
            "How do I use a learning rate scheduler with `GradientTape`?",
            ("tensorflow/tensorflow#37862",),
            "`LearningRateScheduler` is a callback, and nobody calls it in a loop.",
            LOOP,
            "callbacks_not_called",
            (
                (
                    "for _ in range(epochs):",
                    """for epoch in range(epochs):
    optimizer.learning_rate = halved_each_epoch(epoch, float(optimizer.learning_rate))""",
                ),
            ),
        ),
        Question(
            "scheduler_stepped_inside",
            "Why is the learning rate not updated in `train_step`?",
            ("LongxingTan/tfyolo#12",),
            "`tf.function` traces the step once, and keeps the number that Python had then.",
            LOOP,
            "learning_rate_frozen",
            (
                ("optimizer.learning_rate.assign(lr_scheduler.step())", ""),
                (
                    "losses.append(float(train_step(x, y)))",
                    "optimizer.learning_rate.assign(lr_scheduler.step())\nlosses.append(float(train_step(x, y)))",
                ),
            ),
        ),
        Question(
            "accumulated_losses",
            "Can I add up losses, rather than gradients?",
            ("tensorflow/tensorflow#55478",),
            "A tape knows what it recorded itself: of the sum, only the last batch has a gradient.",
            LOOP,
            "accumulation_tail",
            cure="Add up gradients, or have it done: `keras.optimizers.Adam(gradient_accumulation_steps=2)`.",
        ),
        Question(
            "accumulator_of_sums",
            "Are accumulated gradients to be summed or averaged?",
            ("andreped/GradientAccumulator#132", "keras-team/keras#16633"),
            "Averaged, if the update is to be that of one large batch, as `gradient_accumulation_steps` makes it.",
            LOOP,
            "accumulation_not_averaged",
            (("held.assign_add(gradient)", "held.assign_add(gradient / N_GRADIENTS)"),),
        ),
        Question(
            "scaled_as_in_keras_2",
            "Where is `get_scaled_loss` in Keras 3?",
            ("keras-team/keras#20894", "keras-team/keras#19479"),
            "It is `scale_loss`, and the optimizer divides the gradients itself.",
            LOOP,
            "raises_in_one_arm",
            (
                ("scaled_loss = optimizer.get_scaled_loss(loss)", "scaled_loss = optimizer.scale_loss(loss)"),
                ("gradients = optimizer.get_unscaled_gradients(scaled_gradients)", "gradients = scaled_gradients"),
            ),
        ),
        Question(
            "wrapped_and_left_at_that",
            "Does `LossScaleOptimizer` scale the loss in my loop?",
            ("keras-team/keras#19244",),
            "It only divides: gradients of a loss that was not scaled become as many times too small.",
            LOOP,
            "loss_scaling_missing",
            (
                (
                    "loss = loss_fn(y, predictions)",
                    "loss = loss_fn(y, predictions)\nscaled_loss = optimizer.scale_loss(loss)",
                ),
                (
                    "gradients = tape.gradient(loss, model.trainable_variables)",
                    "gradients = tape.gradient(scaled_loss, model.trainable_variables)",
                ),
            ),
        ),
    ),
    "Several GPUs": (
        Question(
            "mean_of_a_replica",
            "Why does my own loss function not work under `MirroredStrategy`?",
            ("tensorflow/tensorflow#35093",),
            "A function that returns one number has averaged over a replica's rows, and nobody divides it by the"
            " replicas: loss and gradients are as many times too large.",
            FIT,
            "replica_loss_not_scaled",
            (
                (
                    "return tf.math.reduce_mean(tf.square(y_true - y_pred))",
                    "return tf.math.reduce_mean(tf.square(y_true - y_pred), axis=-1)",
                ),
            ),
        ),
        Question(
            "divided_by_a_constant",
            "Does a loss that I divide by the global batch size become 1/n on n GPUs?",
            ("keras-team/keras#16285",),
            "In Keras 2 it did; Keras 3 leaves a number alone, and the replicas' shares add up.",
            NOBODY,
            None,
        ),
        Question(
            "mse_of_keras_3",
            "Does Keras 3 train differently with another number of replicas?",
            ("keras-team/keras#19891",),
            "Up to 3.7 it did, with any loss; since 3.8 a Keras loss is divided by the replicas.",
            NOBODY,
            None,
        ),
        Question(
            "statistics_of_a_replica",
            "Is batch normalization synchronized over the GPUs?",
            ("tensorflow/tensorflow#7439", "tensorflow/tensorflow#52986"),
            "Not unless it is told to: each replica normalizes by its own rows.",
            FIT,
            "replica_local_statistics",
            (
                (
                    "keras.layers.BatchNormalization(momentum=0.5),",
                    "keras.layers.BatchNormalization(momentum=0.5, synchronized=True),",
                ),
            ),
        ),
        Question(
            "clipped_by_the_optimizer",
            "Are gradients clipped before or after they are summed over the GPUs?",
            ("tensorflow/tensorflow#33929",),
            "TensorFlow 2.2 refused to clip there; Keras 3 clips each replica's gradients, and then sums them.",
            FIT,
            "clip_order",
            cure="Clip in a loop, behind the sum, or take it for approximate.",
        ),
        Question(
            "accumulated_by_the_optimizer",
            "What does ``RuntimeError: `merge_call` called while defining a new graph`` mean?",
            ("keras-team/keras#17429",),
            "Gradients are summed over the replicas under a condition; so does Keras' own"
            " `gradient_accumulation_steps`.",
            FIT,
            "raises_in_one_arm",
            cure="Take larger batches, or accumulate in a loop of your own.",
        ),
        Question(
            "share_reported_by_a_train_step",
            "Why is the loss of my `train_step` too small on several GPUs?",
            ("keras-team/keras#15509",),
            "It reports a replica's share, which is to be added up, and Keras takes the mean of what replicas report.",
            TRAIN_STEP,
            "replica_reported_loss",
            (
                (
                    "metric.update_state(loss)",
                    "metric.update_state(loss * tf.distribute.get_strategy().num_replicas_in_sync)",
                ),
            ),
        ),
        Question(
            "reduced_by_the_mean",
            "Are the replicas' losses to be reduced with `MEAN` or with `SUM`?",
            ("tensorflow/tensorflow#28956", "tensorflow/tensorflow#45923"),
            "With `SUM`, if each has been divided by the global batch size.",
            LOOP,
            "replica_reported_loss",
            (
                (
                    "return strategy.reduce(tf.distribute.ReduceOp.MEAN, per_replica_losses, axis=None)",
                    "return strategy.reduce(tf.distribute.ReduceOp.SUM, per_replica_losses, axis=None)",
                ),
            ),
        ),
        Question(
            "whole_dataset_on_every_replica",
            "What is wrong with my version of the tutorial's distributed loop?",
            ("tensorflow/tensorflow#33651",),
            "It iterates over the dataset that is not distributed, so that every replica has the whole batch.",
            LOOP,
            "replica_data_not_split",
            (("for x, y in dataset:", "for x, y in strategy.experimental_distribute_dataset(dataset):"),),
        ),
        Question(
            "penalty_of_every_replica",
            "Why are regularization losses scaled by the number of replicas?",
            ("tensorflow/tensorflow#48875",),
            "Every replica adds the whole penalty, and they are summed.",
            LOOP,
            "replica_regularization_not_scaled",
            (
                (
                    "loss += tf.add_n(model.losses)",
                    "loss += tf.nn.scale_regularization_loss(tf.add_n(model.losses))",
                ),
            ),
        ),
    ),
}
"""By the title of their group, in the order of the page."""

EVERY: tuple[Question, ...] = tuple(question for group in QUESTIONS.values() for question in group)

_HEAD = """# Questions that are asked, and their answers

These questions were asked in public, and some of the threads were closed as stale. Each of the loops was written anew
at a small size and given to `conformance.check`; the cause is the one that its verdict names, and with the lines that
are shown it conforms. `python docs/make.py` writes this page from `docs/questions.py`, and
`tests/quality/test_questions.py` holds it to what happens.

How to ask about a loop of yours: [My loop](my_loop.md). What all causes are: [Causes](causes.md).
"""


def questions_page() -> str:
    """The page, as Markdown."""
    parts = [_HEAD]
    for title, questions in QUESTIONS.items():
        parts.append(f"## {title}\n")
        parts += [_section(question) for question in questions]
    return "\n".join(parts)


def _section(question: Question) -> str:
    threads = ", ".join(f"[{thread}]({address(thread)})" for thread in question.threads)
    cause = (
        "It conforms."
        if question.cause is None
        else f"Wrong is {question.side}: [`{question.cause}`](causes.md#{question.cause})."
    )
    cure = f" {question.cure}" if question.cure else ""
    lines = [f"### {question.asks}", "", f"{question.wrong} {cause}{cure} Asked in {threads}.", ""]
    for old, new in question.instead:
        lines += ["```diff", *(f"-{line}" for line in old.splitlines()), *(f"+{line}" for line in new.splitlines())]
        lines += ["```", ""]
    # One block for all lines of a question.
    return "\n".join(lines).replace("```\n\n```diff\n", "")
