"""Steps of real training, and of extremes: what holds the interpreter's lock, what frees it, what is all event loop.

All numbers come from a fixed seed; a step does the same work each time and takes some milliseconds.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Any, Final

SEED: Final = 20_200_706

Step = Callable[[], Awaitable[None]]


def _plain(once: Callable[[], object]) -> Step:
    async def step() -> None:
        once()

    return step


def numpy_step() -> Step:
    """A step of gradient descent of a net with one hidden layer of 128, on a batch of 128 with 256 features."""
    import numpy as np

    dice = np.random.default_rng(SEED)
    x = dice.standard_normal((128, 256), dtype=np.float32)
    y = dice.standard_normal((128, 10), dtype=np.float32)
    first = dice.standard_normal((256, 128), dtype=np.float32) * np.float32(0.05)
    second = dice.standard_normal((128, 10), dtype=np.float32) * np.float32(0.05)

    def once() -> None:
        for _ in range(4):
            hidden = np.maximum(x @ first, 0)
            error = (hidden @ second - y) / len(x)
            back = (error @ second.T) * (hidden > 0)
            second[...] -= 0.01 * (hidden.T @ error)
            first[...] -= 0.01 * (x.T @ back)

    return _plain(once)


def _torch_step(make: Callable[[Any], Any], shape: tuple[int, ...], device: str) -> Step:
    import torch

    torch.manual_seed(SEED)
    model = make(torch).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    x, y = torch.randn(*shape).to(device), torch.randint(0, 10, (shape[0],)).to(device)

    def once() -> None:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
        if device == "cuda":
            torch.cuda.synchronize()

    return _plain(once)


def cnn_step(images: int = 8, device: str = "cpu") -> Step:
    """A step of a convolutional net in PyTorch on images of 28 x 28."""

    def make(torch: Any) -> Any:
        nn = torch.nn
        return nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 16, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Flatten(),
            nn.Linear(16 * 7 * 7, 10),
        )

    return _torch_step(make, (images, 1, 28, 28), device)


def transformer_step(sequences: int = 4, device: str = "cpu") -> Step:
    """A step of a transformer of two layers in PyTorch on sequences of 32 vectors of 64."""

    def make(torch: Any) -> Any:
        nn = torch.nn
        layer = nn.TransformerEncoderLayer(64, 4, 128, dropout=0.0, batch_first=True)
        return nn.Sequential(
            nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Flatten(), nn.Linear(2048, 10)
        )

    return _torch_step(make, (sequences, 32, 64), device)


def python_step() -> Step:
    """Pure Python: the interpreter's lock is never free."""
    dice = random.Random(SEED)
    values = [dice.random() for _ in range(2000)]

    def once() -> None:
        total = 0.0
        for _ in range(20):
            for value in values:
                total += value * value

    return _plain(once)


def matmul_step() -> Step:
    """Products of matrices in NumPy: the interpreter's lock is free for most of the time."""
    import numpy as np

    a = np.random.default_rng(SEED).standard_normal((384, 384), dtype=np.float32)
    out = np.empty_like(a)
    return _plain(lambda: np.matmul(a, a, out=out))


def loop_step() -> Step:
    """Two coroutines that hand 200 things to each other: the event loop does all the work."""

    async def step() -> None:
        queue: asyncio.Queue[int] = asyncio.Queue(1)

        async def put() -> None:
            for i in range(200):
                await queue.put(i)

        async with asyncio.TaskGroup() as group:
            group.create_task(put())
            for _ in range(200):
                await queue.get()

    return step


STEPS: Final[dict[str, Callable[[], Step]]] = {
    "numpy": numpy_step,
    "cnn": cnn_step,
    "transformer": transformer_step,
    "python": python_step,
    "matmul": matmul_step,
    "loop": loop_step,
    "cnn on the GPU": lambda: cnn_step(2048, "cuda"),
    "transformer on the GPU": lambda: transformer_step(512, "cuda"),
}
NEEDS_CUDA: Final = ("cnn on the GPU", "transformer on the GPU")
NEEDS_TORCH: Final = ("cnn", "transformer", *NEEDS_CUDA)
