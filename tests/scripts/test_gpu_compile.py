"""scripts/gpu_compile.py: the reading of HLO, costs, bad signs, comparison, the record. No CUDA."""

import copy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from gpu import cost, flop, hlo, record, signs  # noqa: E402
from gpu.programs import catalogue  # noqa: E402
from gpu.target import child_environment, plugin  # noqa: E402

RECORD = ROOT / "docs" / "results" / "gpu_compile.json"
LOOPS = """HloModule m, is_scheduled=true

%inner (p: (s32[], f32[1024])) -> (s32[], f32[1024]) {
  %p = (s32[], /*index=1*/f32[1024]{0}) parameter(0)
  %x = f32[1024]{0} get-tuple-element(%p), index=1
  %copy.1 = f32[1024]{0} copy(%x)
  ROOT %t = (s32[], f32[1024]{0}) tuple(%i, %copy.1)
}

%test (p: (s32[], f32[1024])) -> pred[] {
  %p = (s32[], f32[1024]{0}) parameter(0)
  ROOT %compare.1 = pred[] compare(%i, %n), direction=LT
}

%outer (p: (s32[], f32[1024])) -> (s32[], f32[1024]) {
  %p = (s32[], f32[1024]{0}) parameter(0)
  ROOT %while.1 = (s32[], f32[1024]{0}) while(%p), condition=%test, body=%inner{TRIPS}
}

%small (p: f32[8]) -> f32[8] {
  ROOT %a = f32[8]{0} copy(%p)
}

%large (p: f32[1048576]) -> f32[1048576] {
  %b = f32[1048576]{0} copy(%p)
  ROOT %c = f32[1048576]{0} copy(%b)
}

ENTRY %main (a: f32[1024]) -> f32[1024] {
  %a = f32[1024]{0} parameter(0)
  %while.2 = (s32[], f32[1024]{0}) while(%t), condition=%test, body=%outer, """ + (
    """backend_config={"known_trip_count":{"n":"5"}}
  %conditional.1 = f32[8]{0} conditional(%q, %u, %v), branch_computations={%small, %large}
  ROOT %copy.2 = f32[1024]{0} copy(%a)
}
"""
)


def priced(text: str, unknown_trips: int = 1) -> tuple[hlo.Module, list[cost.Kernel]]:
    module = hlo.parse(text)
    return module, cost.price_module(module, unknown_trips)


def entry(*lines: str, before: str = "") -> str:
    return f"HloModule m\n{before}\nENTRY %main () -> f32[] {{\n" + "\n".join(lines) + "\n}\n"


def test_nested_loops_multiply_and_the_dearer_branch_counts():
    known = LOOPS.replace("{TRIPS}", ', backend_config={"known_trip_count":{"n":"7"}}')
    _, kernels = priced(known)
    # 5 x 7 in the loops, two copies in the large branch, one of the entry.
    assert sum(kernel.launches for kernel in kernels) == 35 + 2 + 1
    moved = sum(kernel.times * kernel.bytes for kernel in kernels)
    # In branches and bodies the operands named here are parameters of unknown bytes or 4 KiB.
    assert moved == 35 * 8192 + (4 + 8) * 2**20 + 8192


def test_a_loop_of_unknown_length_takes_the_given_trips_and_its_condition():
    unknown = LOOPS.replace("{TRIPS}", "")
    for trips in (1, 3):
        _, kernels = priced(unknown, trips)
        # 5 x (trips bodies and trips + 1 conditions); the host waits trips times each.
        assert sum(kernel.launches for kernel in kernels) == 5 * (2 * trips + 1) + 3
        waits = [k.times for k in kernels if k.launch.instruction.opcode == "while"]
        assert waits == [5 * trips]


def test_text_without_an_entry_is_refused():
    with pytest.raises(ValueError, match="without an ENTRY"):
        hlo.parse("HloModule m\n")


@pytest.mark.parametrize(
    ("attributes", "dtype", "kind", "passes"),
    [
        ("", "f32", "tf32", 1),
        (", operand_precision={highest,highest}", "f32", "f32", 1),
        (", algorithm=dot_bf16_bf16_f32", "f32", "bf16", 1),
        (", algorithm=dot_bf16_bf16_f32_x3", "f32", "bf16", 3),
        (", algorithm=dot_bf16_bf16_f32_x6", "f32", "bf16", 6),
        (", algorithm=dot_tf32_tf32_f32", "f32", "tf32", 1),
        ("", "bf16", "bf16", 1),
        ("", "f64", "f64", 1),
    ],
)
def test_a_product_in_a_fusion(attributes, dtype, kind, passes):
    inner = f"""%gemm (p: {dtype}[64,32], q: {dtype}[32,16]) -> {dtype}[64,16] {{
  %p = {dtype}[64,32]{{1,0}} parameter(0)
  %q = {dtype}[32,16]{{1,0}} parameter(1)
  ROOT %dot.1 = {dtype}[64,16]{{1,0}} dot(%p, %q), lhs_contracting_dims={{1}}{attributes}
}}
"""
    _, (kernel,) = priced(
        entry(
            f"  %a = {dtype}[64,32]{{1,0}} parameter(0)",
            f"  %b = {dtype}[32,16]{{1,0}} parameter(1)",
            f"  ROOT %f = {dtype}[64,16]{{1,0}} fusion(%a, %b), kind=kCustom, calls=%gemm",
            before=inner,
        )
    )
    # Split numbers: 20 FLOP for each of 64 x 32 + 32 x 16 operands, 8 for each of 64 x 16 results.
    splitting = {"f32": 20 * (64 * 32 + 32 * 16) + 8 * 64 * 16} if passes > 1 else {}
    assert kernel.flop == {kind: 2 * 64 * 32 * 16 * passes, **splitting}
    width = {"f32": 4, "bf16": 2, "f64": 8}[dtype]
    assert kernel.bytes == width * (64 * 32 + 32 * 16 + 64 * 16)
    assert kernel.seconds == pytest.approx(3e-6)  # smaller than a launch


@pytest.mark.parametrize(
    ("target", "operands", "result"),
    [
        ("convBiasActivationForward", ("[8,16,16,3]", "[64,3,3,3]"), "[8,16,16,64]"),
        ("convBackwardInput", ("[8,16,16,64]", "[64,3,3,3]"), "[8,16,16,3]"),
        ("convBackwardFilter", ("[8,16,16,3]", "[8,16,16,64]"), "[64,3,3,3]"),
    ],
)
def test_convolutions_of_all_three_directions_cost_the_same(target, operands, result):
    _, (kernel,) = priced(
        entry(
            f"  %a = f32{operands[0]}{{3,2,1,0}} parameter(0)",
            f"  %b = f32{operands[1]}{{3,2,1,0}} parameter(1)",
            f"  ROOT %c = (f32{result}{{3,2,1,0}}, u8[0]{{0}}) custom-call(%a, %b), "
            "window={size=3x3 pad=1_1x1_1}, dim_labels=b01f_o01i->b01f, "
            f'custom_call_target="__cudnn${target}"',
        )
    )
    assert kernel.flop == {"tf32": 2 * 8 * 16 * 16 * 64 * 27}


def test_slices_and_updates_in_place_count_what_they_touch():
    inner = """%update (p: f32[100,1024], q: f32[1,1024], i: s32[]) -> f32[100,1024] {
  %p = f32[100,1024]{1,0} parameter(0)
  %q = f32[50,1024]{1,0} parameter(1)
  %i = s32[] parameter(2)
  %s = f32[1,1024]{1,0} dynamic-slice(%q, %i, %i), dynamic_slice_sizes={1,1024}
  ROOT %d = f32[100,1024]{1,0} dynamic-update-slice(%p, %s, %i, %i)
}
"""
    _, (kernel,) = priced(
        entry(
            "  %a = f32[100,1024]{1,0} parameter(0)",
            "  %b = f32[50,1024]{1,0} parameter(1)",
            "  %i = s32[] parameter(2)",
            "  ROOT %f = f32[100,1024]{1,0} fusion(%a, %b, %i), kind=kLoop, calls=%update",
            before=inner,
        )
    )
    # A row read, a row written, the index in both places.
    assert 2 * 4096 <= kernel.bytes <= 2 * 4096 + 2 * 4


def test_a_kernel_by_name_gets_its_flop_from_the_table(monkeypatch):
    text = entry(
        "  %a = f32[256]{0} parameter(0)",
        "  ROOT %c = f32[128]{0} custom-call(%a), "
        'custom_call_target="__gpu$xla.gpu.triton", backend_config="{name = \\"features\\"}"',
    )
    _, (kernel,) = priced(text)
    assert (kernel.flop, kernel.bytes) == ({}, 4 * (256 + 128))
    assert kernel.name == "features"
    rule = (r"\bfeatures$", lambda one, within: {"bf16": 7e12})
    monkeypatch.setattr(flop, "KERNEL_FLOP", [rule])
    _, (kernel,) = priced(text)
    assert kernel.seconds == pytest.approx(7 / 700)


SIGNS = {
    "grouped_convolution": (
        "  %a = f32[512,32,32,10]{3,2,1,0} parameter(0)",
        "  %b = f32[10,3,3,2]{3,2,1,0} parameter(1)",
        "  ROOT %c = (f32[512,32,32,10]{3,2,1,0}, u8[0]{0}) custom-call(%a, %b), "
        "dim_labels=b01f_o01i->b01f, feature_group_count=5, "
        'custom_call_target="__cudnn$convForward"',
    ),
    "float64": (
        "  %a = f64[4096,1024]{1,0} parameter(0)",
        "  ROOT %c = f64[4096,1024]{1,0} negate(%a)",
    ),
    "host_callback": (
        '  ROOT %c = f32[] custom-call(), custom_call_target="xla_ffi_python_gpu_callback"',
    ),
    "copies": (
        "  %a = f32[4096,4096]{1,0} parameter(0)",
        "  ROOT %c = f32[4096,4096]{0,1} copy(%a)",
    ),
    "scatter": (
        "  %a = f32[10,4]{1,0} parameter(0)",
        "  %i = s32[3,1]{1,0} parameter(1)",
        "  %u = f32[3,4]{1,0} parameter(2)",
        "  ROOT %c = f32[10,4]{1,0} scatter(%a, %i, %u), update_window_dims={1}, to_apply=%add",
    ),
}
NOTHING = dict.fromkeys(("argument_bytes", "output_bytes", "alias_bytes", "temp_bytes"), 0)


@pytest.mark.parametrize("kind", SIGNS)
def test_each_bad_sign_is_found_alone(kind):
    module, kernels = priced(entry(*SIGNS[kind]))
    assert [sign["kind"] for sign in signs.find(module, kernels, NOTHING, 1)] == [kind]


def test_harmless_forms_are_no_bad_signs():
    harmless = [
        [part.replace("feature_group_count=5", "") for part in SIGNS["grouped_convolution"]],
        [part.replace("4096,1024", "512,512") for part in SIGNS["float64"]],
        [part.replace("4096", "1024") for part in SIGNS["copies"]],
        [part + ", unique_indices=true" for part in SIGNS["scatter"]],
    ]
    for lines in harmless:
        module, kernels = priced(entry(*lines))
        assert signs.find(module, kernels, NOTHING, 1) == []


def test_launches_and_memory_are_judged_per_step_and_without_what_is_aliased():
    module, kernels = priced(
        LOOPS.replace("{TRIPS}", ', backend_config={"known_trip_count":{"n":"2000"}}')
    )
    assert signs.kinds({"bad_signs": signs.find(module, kernels, NOTHING, 1)}) >= {"launches"}
    assert signs.find(module, kernels, NOTHING, 0.1) == []
    full = NOTHING | {"argument_bytes": 60 * 2**30, "output_bytes": 60 * 2**30}
    small = entry("  ROOT %c = f32[] copy(%a)")
    module, kernels = priced(small)
    assert [s["kind"] for s in signs.find(module, kernels, full, 1)] == ["memory"]
    aliased = full | {"alias_bytes": 60 * 2**30}
    assert signs.find(module, kernels, aliased, 1) == []


ROW = {
    "program": "p", "devices": 1, "temp_bytes": 1000, "launches": 100.0, "hbm_bytes": 1000,
    "roofline_ms": 10.0, "bad_signs": [{"kind": "scatter", "text": "s"}],
}  # fmt: skip


@pytest.mark.parametrize("figure", record.COMPARED)
def test_a_figure_may_grow_by_five_percent(figure):
    now = copy.deepcopy(ROW)
    now[figure] = ROW[figure] * 1.05
    assert record.compare([ROW], [now]) == []
    now[figure] = ROW[figure] * 1.06
    (text,) = record.compare([ROW], [now])
    assert record.COMPARED[figure] in text and "p on 1" in text
    now[figure] = 0
    assert record.compare([ROW], [now]) == []


def test_new_signs_failures_and_lost_sharing_are_regressions():
    now = ROW | {"bad_signs": [*ROW["bad_signs"], {"kind": "float64", "text": "f64[9]"}]}
    assert record.compare([ROW], [now]) == ["p on 1: new bad sign float64: f64[9]"]
    assert record.compare([now], [ROW]) == []
    failed = {"program": "p", "devices": 1, "error": "no"}
    assert record.compare([ROW], [failed]) == ["p on 1: compiled before, now: no"]
    assert record.compare([failed], [failed]) == []
    assert len(record.compare([ROW], [{"program": "p", "devices": 1, "alone": True}])) == 1
    assert record.compare([], [now]) == []  # a program that is new


def test_rows_are_replaced_and_others_stay(tmp_path):
    other = ROW | {"program": "q"}
    new = ROW | {"temp_bytes": 5}
    alone = {"program": "q", "devices": 8, "alone": True}
    assert record.merged([other, ROW], [new, alone], ["p", "q"]) == [new, other]
    path = tmp_path / "deep" / "r.json"
    assert record.read(path)["rows"] == []
    record.write(path, {"schema": record.SCHEMA, "rows": [new]})
    assert record.read(path)["rows"] == [new]
    assert [file.name for file in path.parent.iterdir()] == ["r.json"]
    path.write_text('{"schema": 99}')
    with pytest.raises(ValueError, match="schema"):
        record.read(path)


@pytest.mark.parametrize("name", ["gpu_compile.json", "gpu_compile_before.json"])
def test_the_committed_record_is_whole(name):
    found = record.read(RECORD.with_name(name))
    assert found["target"].startswith("NVIDIA H100") and found["assumptions"] == cost.ASSUMPTIONS
    programs = catalogue()
    keys = [record.key(row) for row in found["rows"]]
    assert keys and len(keys) == len(set(keys))
    for row in found["rows"]:
        assert row["devices"] in programs[row["program"]].devices
        if "error" not in row:
            assert set(record.COMPARED) <= set(row) and 1 <= len(row["top"]) <= 5
            assert row["what"] and all(set(s) == {"kind", "text"} for s in row["bad_signs"])
            assert row["roofline_ms"] * 1.0001 >= sum(top["ms"] for top in row["top"])


@pytest.mark.process
@pytest.mark.parametrize("names", [["rfad_cifar10_ipc1", "frepo_cifar10_ipc10"], ["sampler_draw"]])
def test_programs_are_built_from_shapes_alone(names):
    # In a process of its own, since the builder changes what JAX says about devices.
    code = f"""
import jax
from gpu.programs import catalogue
from gpu.target import child_environment, plugin  # noqa: E402
from gpu.target import Target, believe
from distill_cli.kernels import fused_block
jax.config.update("jax_enable_x64", True)
target = Target(tuple(jax.devices()))
believe(target)
fused_block.works = lambda: False  # lowered for a CPU here, which has no Triton
for name in {names!r}:
    built = catalogue()[name].build(target)
    assert "stablehlo" in built.lowered.as_text() and built.what and built.steps >= 1
    assert not target.shared_out
"""
    environment = child_environment(ROOT / "src")
    environment["PYTHONPATH"] += f":{ROOT / 'scripts'}"
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.process
def test_the_command_lists_refuses_and_says_what_is_missing():
    command = [sys.executable, str(ROOT / "scripts" / "gpu_compile.py")]
    listed = subprocess.run([*command, "--list"], capture_output=True, text=True)
    assert listed.returncode == 0 and len(listed.stdout.splitlines()) == len(catalogue())
    wrong = subprocess.run([*command, "rfad_cifar11"], capture_output=True, text=True)
    assert wrong.returncode == 2 and wrong.stderr.count("\n") == 1 and "--list" in wrong.stderr
    if plugin() is None:
        bare = subprocess.run(command, capture_output=True, text=True)
        assert bare.returncode == 2 and bare.stderr.count("\n") == 1 and "plugin" in bare.stderr
