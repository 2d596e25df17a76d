"""Order of the training rows in an epoch, and its batches."""

from __future__ import annotations

import torch

_BLOCKS_A_GROUP = 16  # blocks whose rows are shuffled together


def shuffled(n_rows: int, block_rows: int | None, generator: torch.Generator) -> torch.Tensor:
    """A random order of rows.

    Parameters
    ----------
    block_rows : int or None
        Blocks of so many neighbouring rows are put in random order, then the rows of every 16 blocks in turn: any
        16 x `block_rows` rows of the order come from 16 places (or 32, across a bound). None shuffles all with all.

    Returns
    -------
    Tensor of int64, shape (n_rows,)
    """
    if block_rows is None or n_rows <= block_rows * _BLOCKS_A_GROUP:
        return torch.randperm(n_rows, generator=generator)
    order = torch.empty(n_rows, dtype=torch.int64)
    blocks, start = torch.randperm(-(-n_rows // block_rows), generator=generator), 0
    for group in blocks.split(_BLOCKS_A_GROUP):
        rows = (group[:, None] * block_rows + torch.arange(block_rows)).ravel()
        rows = rows[rows < n_rows]
        order[start : start + len(rows)] = rows[torch.randperm(len(rows), generator=generator)]
        start += len(rows)
    return order


def batch_bounds(n: int, size: int) -> list[tuple[int, int]]:
    """Bounds of the batches of an epoch; a last batch of one row is merged, since its statistics mean nothing."""
    starts = list(range(0, n, size))
    if len(starts) > 1 and n - starts[-1] == 1:
        starts.pop()
    return list(zip(starts, [*starts[1:], n], strict=True))
