"""Which GPUs are the process's own, by every variable that hides some."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aiocarbon.meters.visible import Board, by_uuids, select, select_amd


def board(index: int, uuid: str, *, name: str = "NVIDIA A100-SXM4-40GB", mig: tuple[str, ...] = ()) -> Board:
    return Board(index=index, uuid=uuid, bus_id=f"00000000:{index:02X}:00.0", name=name, mig_uuids=mig)


FOUR = [
    board(0, "GPU-aa11"),
    board(1, "GPU-aa22"),
    board(2, "GPU-bb33", mig=("MIG-0011", "MIG-0022")),
    board(3, "GPU-cc44", mig=("MIG-1133",)),
]


def cuda(value: str, **more: str) -> tuple[int, ...]:
    return select(FOUR, {"CUDA_VISIBLE_DEVICES": value, **more}).positions


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", ()),
        ("   ", ()),
        ("-1", ()),
        ("NoDevFiles", ()),  # what SLURM writes for a job without GPUs
        ("none", ()),
        (",0", ()),
        ("9", ()),
        ("99999999999999999999", ()),
        ("0", (0,)),
        ("1,0", (1, 0)),
        (" 1 , 0 ", (1, 0)),
        ("0,2,-1,1", (0, 2)),  # the guide's own example
        ("0,9,1", (0,)),
        ("0,,1", (0,)),
        ("0,0", ()),
        ("1,2,1", ()),
        ("1gpu3,2ampere", (1, 2)),  # strtol's reading, as PyTorch's parser has it
        ("+1", (1,)),
        ("GPU-aa11", (0,)),
        ("GPU-b,GPU-aa2", (2, 1)),
        ("GPU-aa", ()),  # not unique
        ("GPU-bb33,GPU-zz,GPU-aa11", (2,)),
        ("GPU-aa1,GPU-aa11", ()),  # one board by two names
        ("GPU-aa11,1", (0,)),  # the first entry's kind goes for all
        ("0,GPU-aa22", (0,)),
        ("gpu-aa11", ()),
        ("MIG-0022", (2,)),
        ("MIG-0022,MIG-1133", (2,)),  # a process uses one instance at most
        ("MIG-0011,MIG-0022", (2,)),
        ("MIG-0022,MIG-0022", ()),
        ("MIG-00", ()),
        ("MIG-11", (3,)),
        ("MIG-GPU-bb33/7/0", (2,)),
        ("MIG-GPU-zz/7/0", ()),
        ("MIG-GPU-bb33/7", ()),
    ],
)
def test_cuda_visible_devices(value: str, expected: tuple[int, ...]) -> None:
    assert cuda(value) == expected


def test_without_any_variable_all_boards_are_the_process_own() -> None:
    selection = select(FOUR, {})
    assert selection.positions == (0, 1, 2, 3)
    assert selection.variable == ""


def test_a_bad_entry_is_told() -> None:
    selection = select(FOUR, {"CUDA_VISIBLE_DEVICES": "0,x,1"})
    assert "'x'" in selection.problem
    assert select(FOUR, {"CUDA_VISIBLE_DEVICES": "0,1"}).problem == ""


UNEQUAL = [board(0, "GPU-a", name="Quadro P400"), board(1, "GPU-b"), board(2, "GPU-c")]


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"CUDA_VISIBLE_DEVICES": "0"}, True),
        ({"CUDA_VISIBLE_DEVICES": "0", "CUDA_DEVICE_ORDER": "FASTEST_FIRST"}, True),
        ({"CUDA_VISIBLE_DEVICES": "0", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}, False),
        ({"CUDA_VISIBLE_DEVICES": "GPU-a"}, False),
        ({"CUDA_VISIBLE_DEVICES": "2,0,1"}, False),  # all of them, in whatever order
        ({"CUDA_VISIBLE_DEVICES": ""}, False),
        ({}, False),
    ],
)
def test_indices_of_unequal_boards_are_ambiguous_unless_the_order_is_said(
    environ: dict[str, str], expected: bool
) -> None:
    assert select(UNEQUAL, environ).is_ambiguous is expected


def test_a_lost_board_without_a_name_makes_no_ambiguity() -> None:
    boards = [board(0, "GPU-a"), Board(index=1, uuid=""), board(2, "GPU-c")]
    assert not select(boards, {"CUDA_VISIBLE_DEVICES": "0"}).is_ambiguous


@pytest.mark.parametrize("variable", ["NVIDIA_VISIBLE_DEVICES", "SLURM_STEP_GPUS", "SLURM_JOB_GPUS"])
@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("1,3", (1, 3)),
        ("0-2", (0, 1, 2)),
        ("GPU-bb33", (2,)),
        ("MIG-1133", (3,)),
        ("2:0,2:1", (2,)),
        ("all", (0, 1, 2, 3)),
        ("void", (0, 1, 2, 3)),
        ("", (0, 1, 2, 3)),
        ("4,5,6,7", (0, 1, 2, 3)),  # the host's numbers: the four seen here are the four handed out
        ("6,7", (0, 1, 2, 3)),
        ("junk", (0, 1, 2, 3)),
        ("0-99999999999", (0, 1, 2, 3)),
    ],
)
def test_what_was_handed_out_is_a_hint(variable: str, value: str, expected: tuple[int, ...]) -> None:
    assert select(FOUR, {variable: value}).positions == expected


def test_cuda_visible_devices_wins_over_every_hint() -> None:
    assert cuda("3", NVIDIA_VISIBLE_DEVICES="0", SLURM_JOB_GPUS="1") == (3,)
    assert cuda("", NVIDIA_VISIBLE_DEVICES="0") == ()
    assert select(FOUR, {"SLURM_JOB_GPUS": "0,1", "SLURM_STEP_GPUS": "1"}).positions == (1,)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, (0, 1, 2, 3)),
        ({"ROCR_VISIBLE_DEVICES": "1,3"}, (1, 3)),
        ({"ROCR_VISIBLE_DEVICES": "1,GPU-aa11"}, (1, 0)),
        ({"ROCR_VISIBLE_DEVICES": "1,3", "HIP_VISIBLE_DEVICES": "1"}, (3,)),  # HIP counts in what ROCR left
        ({"ROCR_VISIBLE_DEVICES": "1", "HIP_VISIBLE_DEVICES": "1"}, ()),
        ({"HIP_VISIBLE_DEVICES": "2"}, (2,)),
        ({"CUDA_VISIBLE_DEVICES": "2"}, (2,)),
        ({"CUDA_VISIBLE_DEVICES": "2", "HIP_VISIBLE_DEVICES": "0"}, (0,)),
        ({"GPU_DEVICE_ORDINAL": "0,2"}, (0, 2)),
        ({"ROCR_VISIBLE_DEVICES": ""}, ()),
        ({"ROCR_VISIBLE_DEVICES": "0,0,1"}, (0,)),  # a repeated board ends ROCR's list
        ({"ROCR_VISIBLE_DEVICES": "1gpu"}, ()),
    ],
)
def test_amd(environ: dict[str, str], expected: tuple[int, ...]) -> None:
    assert select_amd(FOUR, environ).positions == expected


def test_boards_by_what_pytorch_calls_them() -> None:
    assert by_uuids(FOUR, ["bb33", "aa11"]) == (2, 0)
    assert by_uuids(FOUR, ["GPU-cc44", "0011", "nowhere", ""]) == (3, 2)


ENTRY = st.one_of(
    st.integers(-2, 9).map(str),
    st.sampled_from(["GPU-", "GPU-aa", "GPU-aa11", "MIG-", "MIG-0011", "MIG-GPU-bb33/1/0", "MIG-GPU-/0/0", "all", " "]),
    st.text("0123456789-+:/GPUMIGabc \t\0é٣²", max_size=6),
)
VALUE = st.lists(ENTRY, max_size=6).map(",".join)
VARIABLES = ["CUDA_VISIBLE_DEVICES", "CUDA_DEVICE_ORDER", "NVIDIA_VISIBLE_DEVICES", "SLURM_JOB_GPUS"]
AMD_VARIABLES = ["CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL"]


@given(
    environ=st.dictionaries(st.sampled_from(VARIABLES), VALUE),
    amd_environ=st.dictionaries(st.sampled_from(AMD_VARIABLES), VALUE),
    count=st.integers(0, 4),
)
def test_any_value_selects_some_boards_each_once(
    environ: dict[str, str], amd_environ: dict[str, str], count: int
) -> None:
    for selection in (select(FOUR[:count], environ), select_amd(FOUR[:count], amd_environ)):
        assert len(set(selection.positions)) == len(selection.positions)
        assert set(selection.positions) <= set(range(count))


@given(value=VALUE, tail=VALUE)
def test_what_follows_an_invalid_entry_changes_nothing(value: str, tail: str) -> None:
    assert cuda(f"{value},-1,{tail}") == cuda(f"{value},-1")


@given(order=st.permutations(range(4)), size=st.integers(0, 4))
def test_indices_and_full_uuids_say_the_same(order: list[int], size: int) -> None:
    chosen = order[:size]
    assert cuda(",".join(map(str, chosen))) == tuple(chosen) == cuda(",".join(FOUR[i].uuid for i in chosen))
