#!/usr/bin/env python3
"""Find out which operators onnxruntime-web has, by loading a model of one node for each; run by hand at a new version.

onnxruntime-web publishes no list for its WebAssembly build. The models are the ones ONNX tests its own operators with,
stamped with opset 18 or a later one where the operator is younger; contrib operators are written down here.

    npm install --prefix DIR onnxruntime-web@VERSION
    python tools/web_operators.py DIR > export/kdcompress_export/web/operators.json
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from onnx import TensorProto, defs, helper, numpy_helper
from onnx.backend.test.case.node import collect_testcases

if TYPE_CHECKING:
    from collections.abc import Iterator

OPSETS = range(18, 26)
FLOAT, UINT8, INT8 = TensorProto.FLOAT, TensorProto.UINT8, TensorProto.INT8
QUANTIZED = (("x", UINT8, (1, 4)), ("xs", FLOAT, ()), ("xz", UINT8, ()))
SCALED = (("ys", FLOAT, ()), ("yz", UINT8, ()))
CONTRIB: dict[str, tuple[tuple[tuple[str, int, tuple[int, ...]], ...], dict[str, Any], int]] = {
    "DequantizeLinear": (QUANTIZED, {}, FLOAT),
    "DynamicQuantizeMatMul": ((("x", FLOAT, (1, 4)), ("w", INT8, (4, 4)), ("s", FLOAT, ())), {}, FLOAT),
    "FastGelu": ((("x", FLOAT, (1, 4)),), {}, FLOAT),
    "FusedConv": ((("x", FLOAT, (1, 4, 8)), ("w", FLOAT, (4, 4, 3))), {"activation": "Relu"}, FLOAT),
    "FusedGemm": ((("x", FLOAT, (1, 4)), ("w", FLOAT, (4, 4)), ("b", FLOAT, (4,))), {"activation": "Relu"}, FLOAT),
    "FusedMatMul": ((("x", FLOAT, (1, 4)), ("w", FLOAT, (4, 4))), {"alpha": 0.5}, FLOAT),
    "Gelu": ((("x", FLOAT, (1, 4)),), {}, FLOAT),
    "MatMulIntegerToFloat": (
        (("x", UINT8, (1, 4)), ("w", INT8, (4, 4)), ("xs", FLOAT, ()), ("ws", FLOAT, ())),
        {},
        FLOAT,
    ),
    "MatMulNBits": (
        (("x", FLOAT, (1, 32)), ("w", UINT8, (8, 1, 16)), ("s", FLOAT, (8,))),
        {"K": 32, "N": 8, "bits": 4, "block_size": 32},
        FLOAT,
    ),
    "QGemm": (
        (*QUANTIZED, ("w", INT8, (4, 4)), ("ws", FLOAT, ()), ("wz", INT8, ())),
        {},
        FLOAT,
    ),
    "QLinearAdd": ((*QUANTIZED, ("b", UINT8, (1, 4)), ("bs", FLOAT, ()), ("bz", UINT8, ()), *SCALED), {}, UINT8),
    "QLinearConcat": ((*SCALED, *QUANTIZED), {"axis": 1}, UINT8),
    "QLinearGlobalAveragePool": (
        (("x", UINT8, (1, 4, 8)), *QUANTIZED[1:], *SCALED),
        {"channels_last": 0},
        UINT8,
    ),
    "QLinearLeakyRelu": ((*QUANTIZED, *SCALED), {"alpha": 0.1}, UINT8),
    "QLinearMul": ((*QUANTIZED, ("b", UINT8, (1, 4)), ("bs", FLOAT, ()), ("bz", UINT8, ()), *SCALED), {}, UINT8),
    "QLinearSigmoid": ((*QUANTIZED, *SCALED), {}, UINT8),
    "QLinearSoftmax": ((*QUANTIZED, *SCALED), {"axis": -1, "opset": 13}, UINT8),
    "QuantizeLinear": ((("x", FLOAT, (1, 4)), *SCALED), {}, UINT8),
    "QuickGelu": ((("x", FLOAT, (1, 4)),), {}, FLOAT),
    "SkipLayerNormalization": (
        (("x", FLOAT, (1, 2, 4)), ("skip", FLOAT, (1, 2, 4)), ("gamma", FLOAT, (4,))),
        {},
        FLOAT,
    ),
}
PROGRAM = """
import { createRequire } from 'node:module';
import { readFileSync, readdirSync } from 'node:fs';
const [folder, packages] = process.argv.slice(1);
const ort = createRequire(packages + '/')('onnxruntime-web');
ort.env.wasm.numThreads = 1;
ort.env.logLevel = 'fatal';
const loaded = [];
for (const file of readdirSync(folder)) {
  try {
    const session = await ort.InferenceSession.create(new Uint8Array(readFileSync(folder + '/' + file)), {
      executionProviders: ['wasm'], logSeverityLevel: 4,
    });
    await session.release();
    loaded.push(file);
  } catch {}
}
console.log(JSON.stringify({ version: ort.env.versions.web, loaded }));
"""


def standard_models() -> Iterator[tuple[str, onnx.ModelProto]]:
    """Single-node test models of ONNX, each stamped with the first opset from 18 on that knows its operator."""
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    for case in cases:
        model = case.model
        if model is None or len(model.graph.node) != 1 or model.graph.node[0].domain:
            continue
        operator = model.graph.node[0].op_type
        for opset in OPSETS:
            if not defs.has(operator, opset):
                continue
            stamped = onnx.ModelProto()
            stamped.CopyFrom(model)
            del stamped.opset_import[:]
            stamped.opset_import.append(helper.make_opsetid("", opset))
            stamped.ir_version = 10
            yield f"ai.onnx {operator} {case.name} {opset}", stamped
            break


def contrib_models() -> Iterator[tuple[str, onnx.ModelProto]]:
    """One model for each operator of ``CONTRIB``; all but the first data input are weights."""
    for operator, (inputs, attributes, output) in CONTRIB.items():
        first = next(name for name, _, shape in inputs if shape)
        weights = [
            numpy_helper.from_array(np.ones(shape, dtype=helper.tensor_dtype_to_np_dtype(dtype)), name)
            for name, dtype, shape in inputs
            if name != first
        ]
        dtype, shape = next((dtype, shape) for name, dtype, shape in inputs if name == first)
        names = [name for name, _, _ in inputs]
        graph = helper.make_graph(
            [helper.make_node(operator, names, ["y"], domain="com.microsoft", **attributes)],
            operator,
            [helper.make_tensor_value_info(first, dtype, shape)],
            [helper.make_tensor_value_info("y", output, None)],
            weights,
        )
        opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
        yield f"com.microsoft {operator} contrib 1", helper.make_model(graph, opset_imports=opsets, ir_version=10)


def opset_models() -> Iterator[tuple[str, onnx.ModelProto]]:
    """The same small model, stamped with every opset that this onnx knows."""
    value = helper.make_tensor_value_info("x", FLOAT, (1,))
    out = helper.make_tensor_value_info("y", FLOAT, (1,))
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "opset", [value], [out])
    for opset in range(OPSETS[0], defs.onnx_opset_version() + 1):
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
        yield f"opset {opset} opset 1", model


def main() -> None:
    """Print the list as JSON; what was tried and is missing goes to stderr."""
    packages = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        tried = {}
        for index, (name, model) in enumerate([*standard_models(), *contrib_models(), *opset_models()]):
            (Path(folder) / str(index)).write_bytes(model.SerializeToString())
            tried[str(index)] = tuple(name.split()[:2])
        command = [shutil.which("node") or "node", "--input-type=module", "-e", PROGRAM, folder, str(packages)]
        ran = subprocess.run(command, capture_output=True, text=True, check=True)  # noqa: S603
        done = json.loads(ran.stdout.splitlines()[-1])
    found = {tried[file] for file in done["loaded"]}
    missing = sorted(" ".join(one) for one in set(tried.values()) - found)
    sys.stderr.write(f"{len(tried)} models; not there: {', '.join(missing)}\n")
    operators = {domain: sorted(op for home, op in found if home == domain) for domain in ("ai.onnx", "com.microsoft")}
    newest = max(int(opset) for home, opset in found if home == "opset")
    row = {"onnxruntime-web": done["version"], "max_opset": newest, "operators": operators}
    sys.stdout.write(json.dumps(row, indent=1) + "\n")


if __name__ == "__main__":
    main()
