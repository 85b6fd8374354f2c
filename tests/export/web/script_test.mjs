// node --test script_test.mjs: kdcompress.mjs with an onnxruntime-web that is a few lines of JavaScript.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import test from 'node:test';
import * as kdcompress from '../../../export/kdcompress_export/web/kdcompress.mjs';

const { Bundle, Recognizer, Vocabulary } = kdcompress;
const SYMBOLS = ['<blk>', '▁', 'a', 'b', 'c'];
const UNITS = 4;
const CODE = 0.125; // a frame of samples of value 0.125 * k is label k

class Tensor {
  constructor(type, data, dims) {
    Object.assign(this, { type, data, dims });
    assert.equal(data.length, dims.reduce((product, size) => product * size, 1));
  }
}

/** A model that reads labels off the samples, `lag` frames late, through its states; or whole, without states. */
function fakeOrt({ lag = 0, streaming = true, failAt = Infinity, names = null, nan = false }) {
  const seen = { steps: [], options: null, running: 0, released: false };
  const one = {
    inputNames: names ?? (streaming ? ['pcm', 'line', 'count'] : ['pcm']),
    outputNames: streaming ? ['log_probs', 'next_line', 'next_count'] : ['log_probs'],
    async release() { seen.released = true; },
    async run(feed) {
      assert.equal(seen.running, 0, 'two steps at once');
      seen.running += 1;
      await new Promise((resolve) => { setTimeout(resolve, 0); });
      seen.running -= 1;
      const { data, dims } = feed.pcm;
      assert.deepEqual(dims, [1, data.length]);
      seen.steps.push(data.length);
      if (seen.steps.length > failAt) throw new Error('out of luck\nsecond line');
      const frames = Math.ceil(data.length / UNITS);
      const labels = Array.from({ length: frames }, (_, frame) => Math.round(data[frame * UNITS] / CODE));
      const line = streaming ? [...feed.line.data].concat(labels) : labels;
      const shown = line.slice(0, frames);
      const logProbs = new Float32Array(frames * SYMBOLS.length).fill(nan ? NaN : -9);
      shown.forEach((label, frame) => { if (!nan) logProbs[frame * SYMBOLS.length + label] = -0.25; });
      const answer = { log_probs: new Tensor('float32', logProbs, [1, frames, SYMBOLS.length]) };
      if (streaming) {
        assert.deepEqual([feed.count.type, feed.count.data.constructor], ['int64', BigInt64Array]);
        answer.next_line = new Tensor('float32', Float32Array.from(line.slice(frames)), [1, lag]);
        answer.next_count = new Tensor('int64', BigInt64Array.of(feed.count.data[0] + BigInt(frames)), [1]);
      }
      return answer;
    },
  };
  const create = async (content, options) => {
    seen.options = options;
    if (content[0] !== 77) throw new Error('not a model');
    return one;
  };
  return { Tensor, InferenceSession: { create }, env: { wasm: {} }, seen };
}

function filesOf({ lag = 0, streaming = true, ...changes } = {}) {
  const contents = { 'tokens.txt': SYMBOLS.map((symbol, id) => `${symbol} ${id}\n`).join(''), 'model.onnx': 'Model' };
  const states = [
    { name: 'line', shape: ['N', lag], dtype: 'float32', initial: 2 },
    { name: 'count', shape: ['N'], dtype: 'int64', initial: -3 },
  ];
  const metadata = {
    format_version: 4, name: 'fake', task: 'speech', streaming,
    input: { kind: 'pcm', name: 'pcm', units_per_frame: UNITS, sample_rate: 8000, min_units: 1 },
    states: streaming ? states : [], frame_shift_ms: 40, subsampling_factor: 4, lookahead_frames: lag, chunk_frames: 3,
    models: [{ precision: 'float32', file: 'model.onnx' }], default_precision: 'float32', parameters: 1, blank_id: 0,
    files: Object.fromEntries(Object.entries(contents).map(([name, text]) => [name, createHash('sha256').update(text).digest('hex')])),
    ...changes,
  };
  return { ...contents, 'bundle.json': JSON.stringify(metadata) };
}

const reader = (files) => async (name) => {
  if (!(name in files)) throw new Error('ENOENT');
  return new TextEncoder().encode(files[name]);
};

/** Samples that spell labels, the last frame cut short. */
function spell(labels) {
  const samples = new Float32Array(labels.length * UNITS).map((_, index) => labels[Math.floor(index / UNITS)] * CODE);
  return samples.subarray(0, samples.length - (labels.length ? UNITS - 1 : 0));
}

const LABELS = [0, 2, 2, 0, 2, 3, 0, 0, 1, 4, 4, 4, 0, 1, 1, 2];
const EXPECTED = { text: 'aab c a', tokens: ['a', 'a', 'b', '▁', 'c', '▁', 'a'], timestamps: [1, 4, 5, 8, 9, 13, 15].map((t) => (t * 40) / 1000) };

const plain = ({ text, tokens, timestamps }) => ({ text, tokens, timestamps });

for (const lag of [0, 1, 2, 5, 7]) {
  test(`any cut, any chunk, look-ahead ${lag}: the same answer`, async () => {
    for (const chunkFrames of [1, 2, 3, 16, 40]) {
      const ort = fakeOrt({ lag });
      const recognizer = await Recognizer.open(reader(filesOf({ lag })), ort, { chunkFrames });
      for (const size of [1, 3, 4, 11, 1000]) {
        const stream = recognizer.createStream();
        const samples = spell(LABELS);
        for (let start = 0; start < samples.length; start += size) await stream.acceptWaveform(samples.subarray(start, start + size), 8000);
        await stream.inputFinished();
        await stream.inputFinished();
        assert.deepEqual(plain(stream.result()), EXPECTED);
        assert.equal(stream.framesDecoded, LABELS.length);
        assert.equal(stream.result().logProb, -0.25 * (LABELS.length + 10)); // 0.4 s of tail
      }
      assert.ok(ort.seen.steps.every((length) => length === chunkFrames * UNITS));
      assert.deepEqual(plain(await recognizer.recognize(spell(LABELS), 8000)), EXPECTED);
    }
  });
}

test('recognize takes one step over everything, look-ahead included, and at most 30 s', async () => {
  const ort = fakeOrt({ lag: 2 });
  const recognizer = await Recognizer.open(reader(filesOf({ lag: 2 })), ort);
  await recognizer.recognize(spell(LABELS));
  assert.deepEqual(ort.seen.steps, [(LABELS.length + 2 + 10) * UNITS]);
  await recognizer.recognize(new Float32Array(1000 * UNITS));
  assert.deepEqual(ort.seen.steps.slice(1), [750 * UNITS, 750 * UNITS]);
});

test('partial results grow, and calls that are not awaited are worked off in order', async () => {
  const recognizer = await Recognizer.open(reader(filesOf({ lag: 1 })), fakeOrt({ lag: 1 }));
  const streams = [recognizer.createStream(), recognizer.createStream()];
  const reused = new Float32Array(UNITS);
  const done = [];
  for (const label of LABELS) {
    reused.fill(label * CODE);
    for (const stream of streams) done.push(stream.acceptWaveform(reused, 8000));
  }
  assert.equal(streams[0].partialResult().text, '');
  await done[12];
  assert.equal(streams[0].partialResult().text, 'aa');
  await Promise.all(streams.map((stream) => stream.inputFinished()));
  for (const stream of streams) assert.deepEqual(plain(stream.result()), EXPECTED);
});

test('no audio gives an empty result and no step', async () => {
  for (const streaming of [true, false]) {
    const ort = fakeOrt({ lag: 0, streaming });
    const recognizer = await Recognizer.open(reader(filesOf({ streaming })), ort);
    assert.deepEqual(await recognizer.recognize(new Float32Array(0)), { text: '', tokens: [], timestamps: [], logProb: 0 });
    assert.deepEqual(ort.seen.steps, []);
  }
});

test('a model for whole recordings gets the recording in one step, padded to its shortest input', async () => {
  const ort = fakeOrt({ streaming: false });
  const input = { kind: 'pcm', name: 'pcm', units_per_frame: UNITS, sample_rate: 8000, min_units: 10 };
  const recognizer = await Recognizer.open(reader(filesOf({ streaming: false, input })), ort);
  const stream = recognizer.createStream();
  const samples = spell(LABELS);
  await stream.acceptWaveform(samples.subarray(0, 9), 8000);
  assert.equal(stream.partialResult().text, '');
  await stream.acceptWaveform(samples.subarray(9), 8000);
  await stream.inputFinished();
  assert.deepEqual(plain(stream.result()), EXPECTED);
  assert.deepEqual(ort.seen.steps, [samples.length]);
  await recognizer.recognize(new Float32Array(3));
  assert.equal(ort.seen.steps[1], 10);
});

test('one thread unless asked otherwise, plain WebAssembly, and the caller may override', async () => {
  const ort = fakeOrt({});
  const recognizer = await Recognizer.open(reader(filesOf()), ort, { sessionOptions: { logSeverityLevel: 0 } });
  assert.equal(ort.env.wasm.numThreads, 1);
  assert.deepEqual(ort.seen.options.executionProviders, ['wasm']);
  assert.equal(ort.seen.options.logSeverityLevel, 0);
  assert.equal(recognizer.sampleRate, 8000);
  const other = fakeOrt({});
  await Recognizer.open(reader(filesOf()), other, { threads: null });
  assert.equal('numThreads' in other.env.wasm, false);
  await recognizer.release();
  assert.equal(ort.seen.released, true);
});

test('the blank penalty makes the blank win less often', async () => {
  const eager = new kdcompress.GreedyDecoder(3, 0, { blankPenalty: 2 });
  const state = eager.advance(eager.initState(), Float32Array.of(-0.5, -2, -9, -0.5, -3, -9));
  assert.deepEqual(eager.best(state), { tokenIds: [1], frames: [0], logProb: -2.5 });
});

const refused = [
  ['another rate', (stream) => stream.acceptWaveform(new Float32Array(8), 16000), 'AudioError', /16000 Hz.*8000 Hz.*AudioContext/],
  ['another array', (stream) => stream.acceptWaveform([0, 0], 8000), 'AudioError', /Float32Array/],
  ['NaN', (stream) => stream.acceptWaveform(Float32Array.of(0, NaN), 8000), 'AudioError', /\[-1, 1\].*NaN/],
  ['int16 values', (stream) => stream.acceptWaveform(Float32Array.of(300), 8000), 'AudioError', /300/],
  ['a result too early', (stream) => stream.result(), 'StreamStateError', /inputFinished/],
];
for (const [what, action, name, message] of refused) {
  test(`${what} is refused, and the stream goes on`, async () => {
    const recognizer = await Recognizer.open(reader(filesOf()), fakeOrt({}));
    const stream = recognizer.createStream();
    await assert.rejects(async () => action(stream), { name, message });
    await stream.acceptWaveform(spell(LABELS), 8000);
    await stream.inputFinished();
    assert.deepEqual(plain(stream.result()), EXPECTED);
    await assert.rejects(stream.acceptWaveform(new Float32Array(1), 8000), { name: 'StreamStateError' });
  });
}

test('a failed step fails the stream, but not the recogniser', async () => {
  const ort = fakeOrt({ failAt: 1 });
  const recognizer = await Recognizer.open(reader(filesOf()), ort);
  const stream = recognizer.createStream();
  const failure = { name: 'ModelError', message: /out of luck\)$/ };
  await assert.rejects(stream.acceptWaveform(spell(LABELS), 8000), failure);
  await assert.rejects(stream.inputFinished(), failure);
  assert.throws(() => stream.result(), failure);
  ort.seen.steps.length = 0;
  await recognizer.recognize(spell(LABELS.slice(0, 2)));
});

const damaged = [
  ['a missing file', { 'model.onnx': undefined }, 'BundleNotFoundError', /model\.onnx/],
  ['no bundle', { 'bundle.json': undefined }, 'BundleNotFoundError', /bundle\.json/],
  ['a changed model', { 'model.onnx': 'Modem' }, 'BundleCorruptError', /model\.onnx: SHA-256/],
  ['changed tokens', { 'tokens.txt': '<blk> 0\n' }, 'BundleCorruptError', /tokens\.txt/],
  ['no JSON', { 'bundle.json': '{' }, 'BundleError', /not valid JSON/],
  ['a later format', { 'bundle.json': filesOf({ format_version: 5 })['bundle.json'] }, 'BundleVersionError', /format 5.*1, 2, 3, 4/],
  ['another input', { 'bundle.json': filesOf({ input: { kind: 'image' } })['bundle.json'] }, 'BundleError', /image/],
  ['another blank', { 'bundle.json': filesOf({ blank_id: 1 })['bundle.json'] }, 'BundleError', /blank_id is 1/],
  ['a wrong state', { 'bundle.json': filesOf({ states: [{ name: 's', shape: [2], dtype: 'float32', initial: 0 }] })['bundle.json'] }, 'BundleError', /state s/],
  ['an unknown dtype', { 'bundle.json': filesOf({ states: [{ name: 's', shape: ['N'], dtype: 'bool', initial: 0 }] })['bundle.json'] }, 'BundleError', /bool/],
  ['another graph', { 'bundle.json': filesOf({ states: [] })['bundle.json'] }, 'ModelError', /is not the graph/],
];
for (const [what, change, name, message] of damaged) {
  test(`a bundle with ${what} is refused`, async () => {
    const files = Object.fromEntries(Object.entries({ ...filesOf(), ...change }).filter(([, text]) => text !== undefined));
    await assert.rejects(Recognizer.open(reader(files), fakeOrt({})), { name, message });
  });
}

test('the checksum of bundle.json is checked where there is one', async () => {
  const zeros = '0'.repeat(64);
  const unset = filesOf({ checksum: zeros })['bundle.json'];
  const sum = createHash('sha256').update(unset).digest('hex');
  const good = unset.replace(zeros, sum);
  await Bundle.open(reader({ ...filesOf(), 'bundle.json': good }));
  for (const changed of [good.replace('"fake"', '"fakt"'), unset, unset.replace(zeros, 'short')]) {
    await assert.rejects(Bundle.open(reader({ ...filesOf(), 'bundle.json': changed })), { name: 'BundleCorruptError', message: /bundle\.json.*checksum/ });
  }
});

test('errors share a base, and unknown precisions, chunks and modules are refused', async () => {
  const open = (options, ort = fakeOrt({})) => Recognizer.open(reader(filesOf()), ort, options);
  await assert.rejects(open({ precision: 'int8' }), (error) => error instanceof kdcompress.KdcompressError && /float32/.test(error.message));
  await assert.rejects(open({ chunkFrames: 0 }), { name: 'OptionsError' });
  await assert.rejects(open({}, {}), { name: 'OptionsError', message: /onnxruntime-web/ });
  await assert.rejects(Bundle.open('bundle/'), { name: 'BundleError', message: /no address/ });
});

test('NaN from the model is an error', async () => {
  const recognizer = await Recognizer.open(reader(filesOf()), fakeOrt({ nan: true }));
  await assert.rejects(recognizer.recognize(spell(LABELS)), { name: 'ModelError', message: /NaN/ });
});

test('format 1 is read as streaming', async () => {
  const old = JSON.parse(filesOf()['bundle.json']);
  delete old.streaming;
  delete old.input.min_units;
  const files = { ...filesOf(), 'bundle.json': JSON.stringify({ ...old, format_version: 1 }) };
  const bundle = await Bundle.open(reader(files));
  assert.deepEqual([bundle.metadata.streaming, bundle.metadata.input.min_units], [true, 1]);
  const recognizer = await Recognizer.open(bundle, fakeOrt({}));
  assert.deepEqual(plain(await recognizer.recognize(spell(LABELS))), EXPECTED);
});

test('a tuned decoder is ignored, in the open', async () => {
  const decoder = { kind: 'beam', beam_width: 32, alpha: 0.5, beta: 1.5, lm: 'lm.kdlm', lexicon: null, confidence: null };
  for (const changes of [{ decoder }, { decoder: {} }, { format_version: 3 }, { format_version: 2 }]) {
    const bundle = await Bundle.open(reader(filesOf(changes)));
    assert.deepEqual(bundle.metadata.decoder, changes.decoder);
    const recognizer = await Recognizer.open(bundle, fakeOrt({}));
    assert.deepEqual(plain(await recognizer.recognize(spell(LABELS))), EXPECTED);
  }
});

test('states of every dtype begin as bundle.json says', async () => {
  const dtypes = { float16: Uint16Array, float32: Float32Array, float64: Float64Array, int32: Int32Array, int64: BigInt64Array };
  for (const [dtype, kind] of Object.entries(dtypes)) {
    for (const [initial, half] of [[0, 0], [1, 0x3c00], [-2, 0xc000], [65504, 0x7bff], [-1e9, 0xfc00]]) {
      const states = [{ name: 's', shape: ['N', 2], dtype, initial }];
      let first = null;
      const session = {
        inputNames: ['pcm', 's'], outputNames: ['log_probs', 'next_s'],
        async run({ s }) {
          first = s;
          return { log_probs: new Tensor('float32', new Float32Array(15), [1, 3, 5]), next_s: s };
        },
      };
      const ort = { Tensor, InferenceSession: { create: async () => session }, env: {} };
      const recognizer = await Recognizer.open(reader(filesOf({ states })), ort);
      await recognizer.createStream().acceptWaveform(new Float32Array(3 * UNITS), 8000);
      assert.deepEqual([first.type, first.data.constructor, first.dims], [dtype, kind, [1, 2]]);
      assert.equal(Number(first.data[1]), dtype === 'float16' ? half : dtype === 'float32' ? Math.fround(initial) : initial);
    }
  }
});

test('tokens.txt is parsed as Python parses it', () => {
  assert.deepEqual(Vocabulary.parse('a 1\r\n<blk> 0\n\n  2\n').symbols, ['<blk>', 'a', ' ']);
  for (const content of ['', 'a 0\n', '<blk> 0\na 2\n', '<blk> 0\na 0\n', '<blk> 0\na\n', '<blk> 0\n 1\n', '<blk> -1\n']) {
    assert.throws(() => Vocabulary.parse(content), { name: 'BundleError' });
  }
});
