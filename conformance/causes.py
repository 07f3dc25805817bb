"""The causes: what each name of the contract says, what to write instead, and which clause it replaces.

The key idea is that a cause has one text, whichever way it was found: a name may stand for several ways of going wrong
(`replica_local_normalization` is a scalar loss times a mean weight, or a sum divided by the replica's own weights), and
the evidence of a verdict says which; the sentence here is true of all of them. It is the clause turned round, so the
two are best read together, as `docs/causes.md` shows them.

Nothing here computes anything, so that whoever prints a cause needs no NumPy.
"""

from __future__ import annotations

from dataclasses import dataclass

from conformance.stage import Stage


@dataclass(frozen=True)
class CauseEntry:
    """What is said of a cause.

    Attributes:
        name: its name in the contract.
        sentence: what the arm does, as one sentence.
        advice: what to write instead; code is in backticks, and every piece of it is Python.
        clause: the number of the clause of the referee that it replaces; None where it replaces none.
        stage: the stage where it enters, as signatures name it; of what may enter at any stage, the first.
        harmless: whether nothing is wrong where it is the cause.
        of_replicas: whether it is a matter of the distribution, even where every arm of a plan has replicas.
    """

    name: str
    sentence: str
    advice: str
    clause: str | None
    stage: Stage
    harmless: bool = False
    of_replicas: bool = False


_ENTRIES = (
    CauseEntry(
        "regularization_omitted",
        "Penalties of the model's regularizers, or what its layers add to the loss, are missing from the loss.",
        "Add them under the tape: `loss = loss_fn(y, predictions) + sum(model.losses)`. In `strategy.run` a replica"
        " adds its share of them: `loss += tf.nn.scale_regularization_loss(tf.add_n(model.losses))`.",
        "4.6",
        Stage.LOSS,
    ),
    CauseEntry(
        "regularization_outside_tape",
        "The penalties are part of the loss that is reported and not of what is differentiated, so they have no"
        " gradient.",
        "Add them while the tape records, so that `gradients = tape.gradient(loss, model.trainable_variables)` is taken"
        " of them too: `with tf.GradientTape() as tape:`, and indented below it"
        " `loss = loss_fn(y, model(x, training=True)) + sum(model.losses)`.",
        "5.1",
        Stage.LOCAL_GRADIENT,
    ),
    CauseEntry(
        "activity_loss_scale",
        "An activity penalty is not divided by the rows of the global batch, but by each replica's own rows, by the"
        " rows twice or not at all; or it is left out.",
        "Take it from the model, where Keras has divided it by the rows that the layer was given:"
        " `loss = loss_fn(y, predictions) + sum(model.losses)`. On replicas these are each one's own, so let batches"
        " split evenly: `dataset = dataset.batch(global_batch_size, drop_remainder=True)`.",
        "4.7",
        Stage.LOSS,
    ),
    CauseEntry(
        "training_flag_false",
        "The model is called in inference mode where it trains: dropout does nothing, and batch normalization uses its"
        " moving statistics and leaves them alone.",
        "Call it in training mode: `predictions = model(x, training=True)`. Under fit, take it in the `call` of a"
        " class of your own, `def call(self, inputs, training=None): ...`: who does not is never trained in it.",
        "2.1",
        Stage.OUTPUTS,
    ),
    CauseEntry(
        "batchnorm_statistics_not_updated",
        "Moving statistics of batch normalization stay what they were before the step, or are put back.",
        "Call the model in training mode, `predictions = model(x, training=True)`, and do not restore its variables. Of"
        " a stateless call, write back what it returns:"
        " `for variable, value in zip(model.non_trainable_variables, updated): variable.assign(value)`.",
        "8.3",
        Stage.STATE,
    ),
    CauseEntry(
        "model_called_twice",
        "The model is called twice in training mode in one step, so moving statistics and random states move twice, and"
        " what is looked at may come from another draw than the loss.",
        "Call it once, `predictions = model(x, training=True)`, and use what it returned for everything:"
        " `loss = loss_fn(y, predictions)`, `metric.update_state(y, predictions)`.",
        "2.1",
        Stage.STATE,
    ),
    CauseEntry(
        "label_shape_broadcast",
        "Targets of shape (n,) are broadcast against predictions of shape (n, 1), so every prediction is held against"
        " every target.",
        "Give both one shape, `y = tf.reshape(y, tf.shape(predictions))`, or take a loss of Keras, which matches them:"
        " `loss = keras.losses.MeanSquaredError()(y, predictions)`.",
        "3.1",
        Stage.LOSS,
    ),
    CauseEntry(
        "logits_mismatch",
        "The loss takes the model's probabilities for logits, or its logits for probabilities.",
        "Behind a sigmoid or softmax write `loss_fn = keras.losses.BinaryCrossentropy()`, and for a model that ends"
        " without one `loss_fn = keras.losses.BinaryCrossentropy(from_logits=True)`.",
        "4.1",
        Stage.LOSS,
    ),
    CauseEntry(
        "loss_reduced_over_wrong_axis",
        "The loss is averaged over the wrong axis: over the rows alone, where what a row has is to be averaged as well;"
        " over all that a row has, where the loss given to fit adds it up; or over each masked sequence by itself, so"
        " that a step of a short one counts more.",
        "Do with a row what the given loss does. Average over all axes, `loss = tf.reduce_mean(tf.square(y -"
        " predictions))`, or over a sample's and then the batch's, `loss ="
        " tf.reduce_mean(keras.losses.mean_squared_error(y, predictions))`: of what is no scalar a tape differentiates"
        " the sum. Where the given loss adds up a row: `loss = tf.reduce_mean(loss_fn(y, predictions))`. Of masked"
        " sequences, divide all that counts by its number:"
        " `loss = tf.reduce_sum(losses * mask) / tf.reduce_sum(mask)`.",
        "4.4",
        Stage.LOSS,
    ),
    CauseEntry(
        "loss_summed_not_averaged",
        "The loss is the sum over the rows of the batch, not their mean.",
        "Average over the batch: `loss = tf.reduce_mean(per_sample_loss)`. Of a vector, a tape differentiates the sum.",
        "4.4",
        Stage.LOSS,
    ),
    CauseEntry(
        "mask_ignored",
        "Masked samples, such as padding, count in the sum of the losses or in the number that it is divided by.",
        "Give a loss of Keras the predictions as the model returned them, for they carry their mask:"
        " `loss = loss_fn(y, predictions)`. By hand, `loss = tf.reduce_mean(tf.boolean_mask(losses, mask))`.",
        "4.2",
        Stage.LOSS,
    ),
    CauseEntry(
        "sample_weight_ignored",
        "The losses are not multiplied with their sample weights, or each with all of them, where weights (n, 1) are"
        " broadcast against losses (n,).",
        "Pass them on: `loss = loss_fn(y, predictions, sample_weight=sample_weight)`. By hand, give them the shape of"
        " the losses: `losses * tf.reshape(sample_weight, tf.shape(losses))`.",
        "4.3",
        Stage.LOSS,
    ),
    CauseEntry(
        "sample_weight_normalization",
        "The weighted losses are divided by the sum of their weights, or by the number of those that are not 0, and not"
        " by the number of samples.",
        "Divide by the number: `loss = tf.reduce_sum(losses * sample_weight) / tf.cast(tf.size(losses), losses.dtype)`."
        " Where the sum of the weights is meant, say so to fit too:"
        ' `loss_fn = keras.losses.MeanSquaredError(reduction="mean_with_sample_weight")`.',
        "4.4",
        Stage.LOSS,
    ),
    CauseEntry(
        "class_weight_ignored",
        "The losses are not multiplied with the weights of their classes, or each with those of all rows, where weights"
        " (n, 1) are broadcast against losses (n,).",
        "Make a sample weight of them, looked up by the integer label, and pass it on:"
        " `sample_weight = tf.gather([1.0, 3.0, 0.25], labels)`,"
        " `loss = loss_fn(y, predictions, sample_weight=sample_weight)`.",
        "4.3",
        Stage.LOSS,
    ),
    CauseEntry(
        "loss_weights_ignored",
        "The losses of the outputs are added without their loss weights.",
        "Multiply before adding: `loss = 1.0 * mse(y[0], outputs[0]) + 0.25 * mae(y[1], outputs[1])`.",
        "4.5",
        Stage.LOSS,
    ),
    CauseEntry(
        "partial_batch_dropped",
        "The last, partial batch of an epoch is not trained on.",
        "Keep it, `dataset = dataset.batch(batch_size, drop_remainder=False)`, or round the number of steps up:"
        " `steps = math.ceil(len(x) / batch_size)`.",
        "1.2",
        Stage.BATCH,
    ),
    CauseEntry(
        "batches_cross_epochs",
        "An epoch does not end with its last row: a batch, or a step more, takes rows of the next epoch.",
        "Batch first and repeat then: `dataset = dataset.batch(batch_size).repeat(epochs)`. Where steps are counted,"
        " round their number up: `steps = math.ceil(rows / batch_size)`. Under fit, make"
        " `steps_per_epoch` a multiple of `steps_per_execution`, or leave that at one:"
        " `model.compile(optimizer=optimizer, loss=loss, steps_per_execution=1)`.",
        "1.3",
        Stage.BATCH,
    ),
    CauseEntry(
        "data_order_differs",
        "The same rows are trained on in another order.",
        "Do not shuffle, which fit does with arrays unless it is told otherwise: `model.fit(x, y, shuffle=False)`. Or"
        " shuffle both with one seed: `dataset = dataset.shuffle(len(x), seed=0, reshuffle_each_iteration=False)`.",
        "1.3",
        Stage.BATCH,
    ),
    CauseEntry(
        "inputs_and_targets_misaligned",
        "Inputs come with the targets of other rows.",
        "Put both into another order together, `x, y = x[order], y[order]`, or leave that to a dataset of both:"
        " `dataset = tf.data.Dataset.from_tensor_slices((x, y)).shuffle(len(x))`.",
        "1.1",
        Stage.BATCH,
    ),
    CauseEntry(
        "learning_rate_off_by_one",
        "A step has the learning rate, or the bias correction, of the step before or after it.",
        "Steps count from zero, and count once they are made, which the optimizer sees to:"
        " `optimizer.apply(gradients, model.trainable_variables)`. By hand, ask for the rate first:"
        " `learning_rate = schedule(optimizer.iterations)`.",
        "6.16",
        Stage.UPDATE,
    ),
    CauseEntry(
        "learning_rate_frozen",
        "The learning rate stays that of the first step, of the training or of each epoch, whatever the schedule says.",
        "Give the optimizer the schedule itself and not what it says at the start:"
        " `optimizer = keras.optimizers.SGD(learning_rate=schedule)`.",
        "6.16",
        Stage.UPDATE,
    ),
    CauseEntry(
        "optimizer_state_reset",
        "Slots of the optimizer, or its count of steps, begin anew in the middle of the training.",
        "Make the optimizer once, in front of the epochs: `optimizer = keras.optimizers.Adam()` and then"
        " `for epoch in range(epochs):`. Do not assign to its variables, and compile once.",
        "6.1",
        Stage.UPDATE,
    ),
    CauseEntry(
        "clip_kind",
        "Gradients are clipped in another way than the optimizer's option says: by value, by the norm of each, by the"
        " norm of all, or by scaling small ones up to the norm too.",
        "By hand, `clipvalue` is `[tf.clip_by_value(g, -limit, limit) for g in gradients]`, `clipnorm` is"
        " `[tf.clip_by_norm(g, limit) for g in gradients]` and `global_clipnorm` is"
        " `tf.clip_by_global_norm(gradients, limit)[0]`.",
        "6.4",
        Stage.GRADIENT,
    ),
    CauseEntry(
        "clip_order",
        "Gradients are clipped elsewhere than between their reduction and the update: on each replica before they are"
        " summed, each step before they are accumulated, or behind the update rule.",
        "Sum over the replicas first,"
        ' `gradients = tf.distribute.get_replica_context().all_reduce("sum", gradients)`, then clip and divide by the'
        " replicas, over which the optimizer sums once more:"
        " `gradients = [tf.clip_by_norm(g, limit) / strategy.num_replicas_in_sync for g in gradients]`. On one device,"
        " leave it to the optimizer, which clips what it has accumulated:"
        " `optimizer = keras.optimizers.SGD(clipnorm=0.1, gradient_accumulation_steps=4)`. Under fit on replicas,"
        " divide the limit by their number and expect it to be approximate.",
        "6.4",
        Stage.GRADIENT,
    ),
    CauseEntry(
        "accumulation_not_averaged",
        "Accumulated gradients are added up and not divided by their number.",
        "Apply their mean, `optimizer.apply([total / steps for total in totals], model.trainable_variables)`, or leave"
        " it to the optimizer: `optimizer = keras.optimizers.SGD(gradient_accumulation_steps=4)`.",
        "6.3",
        Stage.GRADIENT,
    ),
    CauseEntry(
        "accumulation_tail",
        "A group of accumulated gradients is cut short: what an epoch or the training leaves over is applied or thrown"
        " away at its end, or an update has the last gradient of its group alone.",
        "Add up gradients and not losses, of which a tape knows what it recorded alone: `total.assign_add(gradient)`."
        " Count the steps through all epochs, and let what is left over wait for the next one:"
        " `if (step + 1) % accumulation_steps == 0:`. The optimizer does so by itself:"
        " `optimizer = keras.optimizers.SGD(gradient_accumulation_steps=4)`.",
        "6.3",
        Stage.GRADIENT,
    ),
    CauseEntry(
        "ema_not_applied",
        "The moving averages of the weights are not taken, start from zero, or are not written into the weights.",
        "Write them when the training ends, as fit does:"
        " `optimizer.finalize_variable_values(model.trainable_variables)`. Have the optimizer take them:"
        " `optimizer = keras.optimizers.Adam(use_ema=True, ema_momentum=0.99)`.",
        "6.17",
        Stage.WEIGHTS,
    ),
    CauseEntry(
        "weight_decay",
        "Weights do not lose w decay lr before the update: decay is left out, of another size, of other variables"
        " or behind the update, or it is added to the gradient as an L2 penalty.",
        "Leave it to the optimizer, `optimizer = keras.optimizers.AdamW(weight_decay=0.004)`, and name what it is to"
        ' spare before it is built: `optimizer.exclude_from_weight_decay(var_names=["bias"])`. By hand, before the'
        " update: `variable.assign_sub(variable * weight_decay * optimizer.learning_rate)`.",
        "6.8",
        Stage.WEIGHTS,
    ),
    CauseEntry(
        "constraint_not_applied",
        "A weight that has a constraint is not projected after its update.",
        "Give the optimizer the model's own variables, which know their constraints (those of a tape do not):"
        " `optimizer.apply(gradients, model.trainable_variables)`. By hand:"
        " `variable.assign(variable.constraint(variable))`.",
        "6.11",
        Stage.WEIGHTS,
    ),
    CauseEntry(
        "frozen_weights_updated",
        "A weight that is not trainable is changed by the training.",
        "Take the gradients of what is trainable: `gradients = tape.gradient(loss, model.trainable_variables)`. Freeze"
        " before compiling: `layer.trainable = False`.",
        "5.1",
        Stage.WEIGHTS,
    ),
    CauseEntry(
        "loss_scaling_missing",
        "The optimizer divides the gradients by its loss scale, and the loss was not multiplied with it, so they are as"
        " many times too small.",
        "Scale under the tape what is differentiated: `scaled = optimizer.scale_loss(loss)`, and then"
        " `gradients = tape.gradient(scaled, model.trainable_variables)`.",
        "6.2",
        Stage.LOCAL_GRADIENT,
    ),
    CauseEntry(
        "metric_not_reset",
        "A metric, or the mean of the loss, goes on from epoch to epoch and is about all rows since the training"
        " began.",
        "Begin each epoch with `metric.reset_state()`.",
        "9.2",
        Stage.LOGS,
    ),
    CauseEntry(
        "epoch_loss_unweighted",
        "The loss of an epoch is the plain mean over its batches: a row of the smaller last batch counts more.",
        "Weigh every batch with its rows: `mean.update_state(loss, sample_weight=tf.shape(x)[0])`, or"
        " `np.average(losses, weights=rows)`.",
        "9.1",
        Stage.LOGS,
    ),
    CauseEntry(
        "epoch_loss_last_batch",
        "The loss that is reported for an epoch, or a metric, is that of its last batch.",
        "Report the mean over the epoch: `mean.update_state(loss, sample_weight=tf.shape(x)[0])` at every step, and"
        " `history.append(float(mean.result()))` at the end.",
        "9.1",
        Stage.LOGS,
    ),
    CauseEntry(
        "loss_reported_after_update",
        "The loss reported for a step is computed anew behind its update, with the weights that the step has left.",
        "Report the loss that was differentiated: `mean.update_state(loss, sample_weight=tf.shape(x)[0])`, with the"
        " `loss` of the tape.",
        "9.1",
        Stage.LOGS,
    ),
    CauseEntry(
        "evaluation_in_training_mode",
        "Validation data is evaluated in training mode: dropout drops, and batch normalization uses the statistics of"
        " the validation batch.",
        "Evaluate in inference mode: `predictions = model(x, training=False)`.",
        "9.3",
        Stage.LOGS,
    ),
    CauseEntry(
        "replica_loss_not_scaled",
        "The loss is not divided by the number of replicas before the gradients are summed over them, so loss and"
        " gradients are as many times too large.",
        "Return one value a sample from the loss, `tf.reduce_mean(tf.square(y_true - y_pred), axis=-1)`, or make it a"
        " `keras.losses.Loss`: Keras divides by the replicas only what it averages itself. In a loop,"
        " `loss = tf.reduce_mean(losses) / tf.distribute.get_strategy().num_replicas_in_sync`.",
        "4.4",
        Stage.LOSS,
        of_replicas=True,
    ),
    CauseEntry(
        "replica_loss_scaled_twice",
        "The loss is divided by the number of replicas twice, so loss and gradients are as many times too small.",
        "Divide once: a loss of Keras that averages has divided already where it is called in `strategy.run`:"
        " `loss = loss_fn(y, predictions)`.",
        "4.4",
        Stage.LOSS,
        of_replicas=True,
    ),
    CauseEntry(
        "replica_regularization_not_scaled",
        "Every replica adds the whole penalties, and they are summed over the replicas, so they count as many times.",
        "Add a replica's share of them: `loss += tf.nn.scale_regularization_loss(tf.add_n(model.losses))`.",
        "4.6",
        Stage.LOSS,
        of_replicas=True,
    ),
    CauseEntry(
        "replica_gradients_not_reduced",
        "The update is not made with the sum of the replicas' gradients: each replica takes its own, or all take one's"
        " or the mean.",
        "Let the optimizer sum them, by calling it in `strategy.run`:"
        " `optimizer.apply(gradients, model.trainable_variables)`. By hand, before the update:"
        ' `gradients = tf.distribute.get_replica_context().all_reduce("sum", gradients)`.',
        "5.2",
        Stage.GRADIENT,
        of_replicas=True,
    ),
    CauseEntry(
        "replica_gradients_reduced_twice",
        "The gradients are summed over the replicas twice, so they are as many times too large.",
        "Leave out the `all_reduce` of your own, for the optimizer of Keras does it:"
        " `optimizer.apply(gradients, model.trainable_variables)`.",
        "5.2",
        Stage.GRADIENT,
        of_replicas=True,
    ),
    CauseEntry(
        "replica_mean_of_means",
        "The loss, or a part of it, is the mean of the replicas' means: where the samples that count split unevenly,"
        " those on the replica with fewer of them count more, and a replica without any takes its part of the average"
        " with it.",
        "Divide by the rows of all replicas:"
        ' `rows = tf.distribute.get_replica_context().all_reduce("sum", tf.cast(tf.shape(x)[0], tf.float32))`,'
        " `loss = tf.reduce_sum(losses) / rows`. Under fit, make the batch size a multiple of the number of replicas,"
        " and the rows one of the batch size: `dataset = dataset.batch(global_batch_size, drop_remainder=True)`.",
        "4.4",
        Stage.LOSS,
        of_replicas=True,
    ),
    CauseEntry(
        "replica_fixed_batch_divisor",
        "The sum of the losses is divided by the rows of a full batch, however few a batch has.",
        "Divide by the rows that there are:"
        ' `rows = tf.distribute.get_replica_context().all_reduce("sum", tf.cast(tf.shape(x)[0], tf.float32))`,'
        " `loss = tf.reduce_sum(losses) / rows`.",
        "4.4",
        Stage.LOSS,
        of_replicas=True,
    ),
    CauseEntry(
        "replica_local_normalization",
        "Each replica normalizes with the weights of its own rows, not with those of the global batch: weighted losses"
        " are divided by the replica's own weights, or a loss that is a scalar already is multiplied with their mean.",
        "Return one value a row from the loss, so that each is weighted by itself:"
        " `tf.reduce_mean(tf.square(y_true - y_pred), axis=-1)`. Divide by the weights of all replicas:"
        ' `total = tf.distribute.get_replica_context().all_reduce("sum", tf.reduce_sum(sample_weight))`,'
        " `loss = tf.reduce_sum(losses * sample_weight) / total`.",
        "4.4",
        Stage.LOSS,
        of_replicas=True,
    ),
    CauseEntry(
        "replica_local_statistics",
        "Batch normalization takes its statistics from the rows of one replica, not from those of the global batch;"
        " where a batch leaves a replica without rows, they are NaN, and so is the gradient of its scale.",
        "Synchronize them: `keras.layers.BatchNormalization(synchronized=True)`. Let no batch have fewer rows than"
        " there are replicas: `dataset = dataset.batch(global_batch_size, drop_remainder=True)`.",
        "2.2",
        Stage.OUTPUTS,
        of_replicas=True,
    ),
    CauseEntry(
        "replica_data_not_split",
        "Every replica trains on the whole batch instead of its part of it.",
        "Distribute the dataset, `dataset = strategy.experimental_distribute_dataset(dataset)`, or give fit the data as"
        " it is: `model.fit(x, y, batch_size=global_batch_size)`.",
        "1.5",
        Stage.BATCH,
        of_replicas=True,
    ),
    CauseEntry(
        "replica_batch_size",
        "The batch size is taken for that of one replica, or divided by the replicas before the dataset is distributed"
        " and divided again, so the global batch has other rows than it was asked to have.",
        "Batch by the global size, and let the strategy split it:"
        " `dataset = strategy.experimental_distribute_dataset(dataset.batch(global_batch_size))`.",
        "1.1",
        Stage.BATCH,
        of_replicas=True,
    ),
    CauseEntry(
        "replica_reported_loss",
        "What is reported is not that of the global batch: it is the mean of what the replicas report, whatever rows"
        " they hold, the mean of shares that are to be added, or what one replica reports.",
        'Add up shares, `loss = strategy.reduce("SUM", shares, axis=None)`. Under fit, read the values of the epoch'
        " rather than those of its steps, and let batches split evenly:"
        " `dataset = dataset.batch(global_batch_size, drop_remainder=True)`.",
        "9.4",
        Stage.LOGS,
        of_replicas=True,
    ),
    CauseEntry(
        "initial_weights_differ",
        "The training starts from other weights than those that it was given.",
        "Copy them, `model.set_weights(other.get_weights())`, or seed in front of each building of the model:"
        " `keras.utils.set_random_seed(0)`.",
        "2.1",
        Stage.OUTPUTS,
    ),
    CauseEntry(
        "random_stream_differs",
        "Random layers draw other numbers: each replica has a stream of its own, or a stream has another seed, starts"
        " at another place or is begun anew.",
        "Nothing is wrong as long as every step draws fresh numbers: expect equality in distribution only. For equal"
        " numbers, give the layers one seed, `keras.layers.Dropout(0.5, seed=0)`, and leave their states alone. What a"
        " step draws with tf.random, draw into the data: `dataset.map(lambda x: (x, tf.random.normal((latent,))))`.",
        "8.2",
        Stage.OUTPUTS,
        harmless=True,
    ),
    CauseEntry(
        "rounding_amplified",
        "Nothing is done otherwise: a gradient that is nothing but rounding, such as that of a bias in front of batch"
        " normalization, is made into real steps by an optimizer that divides by its size.",
        "Nothing is wrong. Leave out the weight that has no effect: `keras.layers.Dense(8, use_bias=False)` in front of"
        " `keras.layers.BatchNormalization()`.",
        None,
        Stage.WEIGHTS,
        harmless=True,
    ),
    CauseEntry(
        "numeric_precision",
        "The same computation is rounded otherwise: in fewer bits, or in another order.",
        "Nothing is wrong. Compare with a tolerance of some units in the last place,"
        " `np.testing.assert_array_almost_equal_nulp(first, second, nulp=8)`, and where bits matter compute in more of"
        " them: `predictions = tf.cast(predictions, tf.float32)`.",
        None,
        Stage.LOGS,
        harmless=True,
    ),
    CauseEntry(
        "raises_in_one_arm",
        "The training raises in one arm and runs in the other.",
        "Look at the layer, the operation and the line that the exception names; the other arm shows that the case"
        " itself is sound. Run eagerly, it names the line in your code:"
        " `model.compile(optimizer=optimizer, loss=loss, run_eagerly=True)`.",
        None,
        Stage.BATCH,
    ),
    CauseEntry(
        "unexplained",
        "No known deviation reproduces what was seen.",
        "Read the evidence: the first wrong stage is where to look, and the repro shows it alone. Then take away one"
        " option after the other until it vanishes:"
        " `conformance.check(train_step, model=build_model, loss=loss, optimizer=optimizer, data=(x, y))`.",
        None,
        Stage.BATCH,
    ),
    CauseEntry(
        "batch_skipped",
        "A batch is taken from the data and not trained on: as by fit under a strategy, which opens the data once to"
        " learn its shapes and again to train, and loses what it has read ahead of a generator by then.",
        "Feed a dataset, which can be read anew:"
        " `dataset = tf.data.Dataset.from_generator(make_batches, output_signature=signature)`.",
        "1.2",
        Stage.BATCH,
    ),
    CauseEntry(
        "raises_in_every_arm",
        "The training raises in every arm, so that it is neither the trainer, nor the replicas, nor the graph, but the"
        " model or its parts.",
        "Look at the layer, the operation, what met in it and the line that are named; call the layer alone on such an"
        " input, `layer(tf.zeros(shape, dtype))`, until it takes it, or let it say what it does not take:"
        " `raise ValueError(f'{self.name} takes inputs of rank 2, not {inputs.shape}')`.",
        None,
        Stage.OUTPUTS,
    ),
    CauseEntry(
        "model_not_trained",
        "The training leaves every weight of the model that it was given as it was: nothing updates them, the updates"
        " are zero or undone, or what is trained is another model.",
        "Take the gradients of the model that was given,"
        " `gradients = tape.gradient(loss, model.trainable_variables)`, and hand them to the optimizer at every step:"
        " `optimizer.apply(gradients, model.trainable_variables)`. Of a copy that was trained, write the weights back:"
        " `model.set_weights(copy.get_weights())`.",
        "6.1",
        Stage.WEIGHTS,
    ),
    CauseEntry(
        "callbacks_not_called",
        "Callbacks that change the training, as by setting the learning rate or weights between its steps or by ending"
        " it early, are called by fit and not by the loop.",
        "Take `callbacks` as a parameter and call them where fit does, by"
        " `calls = keras.callbacks.CallbackList(callbacks, model=model)`: `calls.on_epoch_begin(epoch)`,"
        " `calls.on_train_batch_begin(step)` and so on, until `model.stop_training` is set.",
        None,
        Stage.BATCH,
    ),
    CauseEntry(
        "optimizer_called_twice",
        "The optimizer is called more than once a step, so that it counts more steps than are made, and by them sets"
        " its learning rate and corrects its averages.",
        "Call it once a step, with all gradients: `optimizer.apply(gradients, model.trainable_variables)`. Parts of a"
        " model that are trained apart need an optimizer each.",
        "6.27",
        Stage.UPDATE,
    ),
    CauseEntry(
        "accumulation_mean_of_means",
        "The parts of a batch count alike in its update, whatever the number of their rows: a mean of means.",
        "Let a part count with its rows: `loss = loss_fn(y_part, model(x_part, training=True)) * len(x_part) / rows`,"
        " where `rows = len(x)`.",
        "4.4",
        Stage.LOSS,
    ),
    CauseEntry(
        "metric_not_updated",
        "A metric of the model, such as the mean of the loss, is never given anything, so that 0 is reported for an"
        " epoch, whatever a training step returns under the metric's name.",
        "In `train_step`, give every one of `self.metrics` what it reports,"
        " `metric.update_state(loss, sample_weight=keras.ops.shape(x)[0])` for the mean of the loss and"
        " `metric.update_state(y, y_pred)` for the others, and return what they hold:"
        " `return {metric.name: metric.result() for metric in self.metrics}`.",
        "9.1",
        Stage.LOGS,
    ),
)

CAUSES: dict[str, CauseEntry] = {entry.name: entry for entry in _ENTRIES}
"""Every cause by its name, in the order of the contract; what the contract has grown by comes last."""
