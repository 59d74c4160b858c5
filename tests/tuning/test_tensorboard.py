"""TensorBoard's HParams view: read by its own plugin, from the event files."""

import numpy as np
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing import data_provider
from tensorboard.backend.event_processing.plugin_event_multiplexer import EventMultiplexer
from tensorboard.context import RequestContext
from tensorboard.plugins import base_plugin
from tensorboard.plugins.hparams import (
    api_pb2,
    backend_context,
    get_experiment,
    list_session_groups,
)

from tuning import tensorboard

SPACE = [
    {"class_name": "Float", "config": {"name": "temperature", "min_value": 1.0, "max_value": 64.0}},
    {"class_name": "Int", "config": {"name": "depth", "min_value": 1, "max_value": 3}},
    {"class_name": "Choice", "config": {"name": "method", "values": ["kd", "sharp"]}},
    {"class_name": "Boolean", "config": {"name": "deep"}},
    {"class_name": "Fixed", "config": {"name": "fixed", "value": 3}},
]


@pytest.fixture
def shown(tmp_path):
    tensorboard.experiment(tmp_path, SPACE, "accuracy")
    for trial, temperature in (("00", 2.0), ("01", 8.0)):
        lines = [
            {"seed": seed, "epoch": epoch, "loss": 1 / epoch, "validation": {"accuracy": score}}
            for seed in (0, 1)
            for epoch, score in ((1, 0.25), (2, 0.75), (3, 0.5))
        ]
        executions = [
            {"seed": seed, "score": 0.75 + seed / 8 + temperature / 64, "best_epoch": 2}
            for seed in (0, 1)
        ]
        tensorboard.write(
            tmp_path, trial, {"temperature": temperature, "method": "kd"}, lines, executions
        )
    return tmp_path / tensorboard.FOLDER


def test_the_view_lists_trials_with_their_hyper_parameters_and_scores(shown):
    events = EventMultiplexer().AddRunsFromDirectory(str(shown)).Reload()
    provider = data_provider.MultiplexerDataProvider(events, str(shown))
    context = backend_context.Context(base_plugin.TBContext(data_provider=provider))
    request = RequestContext()
    ask = api_pb2.GetExperimentRequest()
    experiment = get_experiment.Handler(request, context, "", ask).run()
    assert {info.name for info in experiment.hparam_infos} == {
        *("temperature", "depth", "method", "deep", "fixed"),
    }
    (metric,) = experiment.metric_infos
    assert (metric.name.tag, metric.display_name) == ("score", "validation accuracy")
    ask = api_pb2.ListSessionGroupsRequest(
        start_index=0,
        slice_size=10,
        allowed_statuses=[api_pb2.STATUS_UNKNOWN],
        aggregation_type=api_pb2.AGGREGATION_AVG,
    )
    groups = list_session_groups.Handler(request, context, "", ask).run().session_groups
    found = {}
    for group in groups:
        (value,) = group.metric_values
        found[group.name] = (group.hparams["temperature"].number_value, value.value)
        assert group.hparams["method"].string_value == "kd"
        assert len(group.sessions) == 2
    # of its executions the view shows the mean
    assert found == {"00": (2.0, 0.8125 + 2 / 64), "01": (8.0, 0.8125 + 8 / 64)}


def test_the_curves_are_those_of_each_execution(shown):
    events = EventMultiplexer().AddRunsFromDirectory(str(shown)).Reload()
    assert sorted(events.Runs()) == [
        *("00/execution0", "00/execution1", "01/execution0", "01/execution1", "experiment"),
    ]
    for tag, wanted in (("validation/accuracy", [0.25, 0.75, 0.5]), ("loss", [1, 1 / 2, 1 / 3])):
        points = events.Tensors("01/execution1", tag)
        assert [point.step for point in points] == [1, 2, 3]
        values = [float(tf.make_ndarray(point.tensor_proto)) for point in points]
        np.testing.assert_allclose(values, wanted, rtol=1e-6)


def test_a_trial_is_written_whole_or_not_at_all(tmp_path):
    executions = [{"seed": 0, "score": None, "best_epoch": 1}]
    with pytest.raises(ValueError, match="None"):
        tensorboard.write(tmp_path, "00", {"alpha": 0.5}, [], executions)
    assert not tensorboard.written(tmp_path, "00")
