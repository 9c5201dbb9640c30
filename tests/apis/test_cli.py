import pytest

from mmssd.apis.cli import explain, readable_errors


def exit_status(error, capsys, **kwargs):
    with pytest.raises(SystemExit) as info, readable_errors(**kwargs):
        raise error
    return info.value.code, capsys.readouterr().err


@pytest.mark.parametrize(
    'error',
    [
        ValueError('data_root=x: no such folder'),
        FileNotFoundError('data_root=x: no such folder'),
        KeyError('data_root=x: no such folder'),
        ImportError('data_root=x: no such folder'),
        FloatingPointError('data_root=x: no such folder'),
    ],
)
def test_bad_input_is_one_line(error, capsys):
    status, text = exit_status(error, capsys)
    assert status == 1
    assert text == 'error: data_root=x: no such folder\n'


def test_faults_are_shown_in_full():
    with pytest.raises(RuntimeError), readable_errors():
        raise RuntimeError('shapes')


def test_further_errors_of_a_tool(capsys):
    error = RuntimeError('stage 2 failed')
    status, text = exit_status(error, capsys, also=(RuntimeError,))
    assert (status, text) == (1, 'error: stage 2 failed\n')


def test_errors_inside_a_step_are_shown_in_full(capsys):
    def run_iter(error):
        raise error

    with pytest.raises(ValueError, match='shapes'), readable_errors():
        run_iter(ValueError('shapes'))
    with pytest.raises(SystemExit), readable_errors():
        run_iter(FloatingPointError('iteration 3: loss is NaN'))
    assert capsys.readouterr().err == 'error: iteration 3: loss is NaN\n'


def test_traceback_on_request(monkeypatch):
    monkeypatch.setenv('MMSSD_TRACEBACK', '1')
    with pytest.raises(ValueError, match='x'), readable_errors():
        raise ValueError('x')


def test_interrupt(capsys):
    status, text = exit_status(
        KeyboardInterrupt(), capsys, on_interrupt=lambda: 'go on with X'
    )
    assert status == 130
    assert text == '\ngo on with X\n'


def test_explain():
    assert explain(KeyError('no such type')) == 'no such type'
    assert explain(ValueError('')) == 'ValueError'
    worker = ValueError(
        'Caught ValueError in DataLoader worker process 0.\n'
        'Original Traceback (most recent call last):\n'
        '  File "x.py", line 1, in f\n'
        'ValueError: 7 broken images:\na.png\n'
    )
    assert explain(worker) == '7 broken images:\na.png'
