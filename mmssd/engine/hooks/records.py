"""Files of one JSON record a line that hooks keep beside a run."""

import json
import os


def append_records(path: str, records: list[dict]) -> None:
    """Write records to the end of a file."""
    with open(path, 'a') as file:
        for record in records:
            file.write(json.dumps(record) + '\n')


def drop_later_records(path: str, runner) -> None:
    """Keep what is of the run up to the iteration that it starts from.

    Args:
        path: file whose records have an ``iter``; need not exist.
        runner: the runner, about to train.
    """
    if not os.path.exists(path):
        return
    with open(path) as file:
        lines = file.readlines()
    kept = []
    for line in lines:
        try:
            iteration = json.loads(line)['iter']
        except ValueError:
            continue  # cut short by a kill
        if 0 < runner.iter >= iteration:
            kept.append(line)
    if len(kept) < len(lines):
        runner.logger.info(
            f'{path}: dropped {len(lines) - len(kept)} records that are '
            f'not of the run up to iteration {runner.iter}'
        )
        with open(path, 'w') as file:
            file.writelines(kept)
