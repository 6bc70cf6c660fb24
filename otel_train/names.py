"""The names that a backend, a report and the run log share, each written here and nowhere else.

``dl.*`` is the field's namespace for training (NeMo Lens, Megatron-LM); ``error.type`` and the like are OpenTelemetry's
semantic conventions 1.44. What is about otel_train itself is ``otel_train.*``.
"""

PREFIX = "dl."
"""A phase ``forward`` is the span ``dl.forward``; a value ``loss`` given to ``log()`` is the gauge ``dl.loss``."""

# Event kinds (``events.jsonl``). With a duration they become spans ``dl.<kind>``, without one they become log events.
EPOCH = "epoch"
EVALUATION_KIND = "evaluation"
CHECKPOINT = "checkpoint"
PHASE_EVENT = "phase"
"""A phase outside a step, or on another thread than the training's."""
TIMED = "timed"
NONFINITE = "nonfinite"
ERROR = "error"
"""An exception left a step (or, with ``dl.phase``, a phase)."""
HEALTH = "health"
"""otel_train on itself: what it spent, dropped and failed at, so far."""

# Attributes of spans, events and metric points.
RUN_ID = "dl.run.id"
RANK = "dl.rank"
LOCAL_RANK = "dl.local_rank"
WORLD_SIZE = "dl.world_size"
ITERATION = "dl.iteration"
EPOCH_NUMBER = "dl.epoch"
PHASE = "dl.phase"
PHASE_COUNT = "dl.phase.count"
PHASE_TIME = "dl.phase.time"
BATCH_SIZE = "dl.batch_size"
PADDED_TOKEN_COUNT = "dl.padded_token.count"
KEPT_BECAUSE = "dl.step.kept"
"""Why a step became a trace: ``sampled``, ``slow``, ``failed``, ``child_spans``."""
EVALUATION_NAME = "dl.evaluation.name"
STEP_COUNT = "dl.step.count"
SAMPLE_COUNT = "dl.sample.count"
TOKEN_COUNT = "dl.token.count"
CHECKPOINT_KIND = "dl.checkpoint.kind"
CHECKPOINT_PATH = "dl.checkpoint.path"
CHECKPOINT_SIZE = "dl.checkpoint.size"
CHECKPOINT_RATE = "dl.checkpoint.rate"
MODE = "dl.mode"
"""``training`` or ``evaluation``: on every step's span and every point of a step metric."""
INTERVAL_INDEX = "dl.interval.index"
SUPPRESSED_SLOW_STEPS = "otel_train.slow_steps.suppressed"
ERROR_TYPE = "error.type"
SCALAR_NAME = "dl.scalar.name"
SCALAR_VALUE = "dl.scalar.value"
NONFINITE_COUNT = "dl.scalar.nonfinite.count"
TIMED_NAME = "code.function.name"
TIMED_CPU_TIME = "otel_train.timed.cpu_time"
TIMED_PEAK_MEMORY = "otel_train.timed.peak_memory_change"
TIMED_READ = "otel_train.timed.read"
TIMED_WRITTEN = "otel_train.timed.written"
THREAD_NAME = "thread.name"

# Spans that no event stands for.
STEP_SPAN = "dl.step"
INTERVAL_SPAN = "dl.interval"
START_UP_SPAN = "dl.startup"

# Metrics; those that share their name with an attribute or an event's field are above.
STEP_DURATION = "dl.step.duration"
PHASE_DURATION = "dl.phase.duration"
STEP_RATE = "dl.step.rate"
SAMPLE_RATE = "dl.sample.rate"
TOKEN_RATE = "dl.token.rate"
OVERHEAD = "otel_train.overhead.time"
OVERHEAD_THREAD = "otel_train.thread"
FAILED_SIGNAL = "otel_train.signal"
FAILED_SITE = "otel_train.site"

# Attributes of a ``health`` event: running totals since the run began.
OVERHEAD_TRAINING = "otel_train.overhead.time.training"
OVERHEAD_BACKGROUND = "otel_train.overhead.time.background"
RECORDS_DROPPED = "otel_train.records.dropped"
EXPORT_FAILURES = "otel_train.export.failures"
ERRORS = "otel_train.errors"

# Phases that reports know; any other name will do.
FORWARD = "forward"
BACKWARD = "backward"
LOSS_PHASE = "loss"
OPTIMIZER = "optimizer"
COLLECTIVE = "collective"
