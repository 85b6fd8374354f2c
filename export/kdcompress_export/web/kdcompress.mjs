// Streams audio through a kdcompress bundle with onnxruntime-web, in a browser or in Node. No dependencies.
//
//   import * as ort from 'onnxruntime-web/wasm';
//   import { Recognizer } from './bundle/kdcompress.mjs';
//   const recognizer = await Recognizer.open('bundle/', ort);
//   const { text, tokens, timestamps } = await recognizer.recognize(samples, recognizer.sampleRate);
//
// The answers are those of the Python package kdcompress_runtime with its greedy decoder. The field `decoder` of
// bundle.json (beam search, language model, calibrated confidence) is not followed here: it is ignored.

export const FORMAT_VERSIONS = [1, 2, 3, 4];
const METADATA_FILE = 'bundle.json';
const TOKENS_FILE = 'tokens.txt';
const BLANK = '<blk>';
const WORD_SEPARATOR = '▁';
const BATCH_AXIS = 'N';
const LOG_PROBS = 'log_probs';
const NEXT = 'next_';
const TAIL_SECONDS = 0.4;
const TAIL_AMPLITUDE = 5.5e-4;
const WHOLE_STEP_SECONDS = 30; // longest step of recognize(): bounds its memory
const LOUDEST = 8; // int16 values passed as floats are far above, audio in [-1, 1] never is
const LINE_END = /\r\n|[\n\r\v\f\x1c-\x1e\x85\u2028\u2029]/;
const BLANKS = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/;

/** Base of every error thrown here; the message says what is wrong and what to do. */
export class KdcompressError extends Error {
  constructor(message, options) {
    super(message, options);
    this.name = new.target.name;
  }
}
/** A bundle cannot be used. */
export class BundleError extends KdcompressError {}
/** A file of the bundle is missing. */
export class BundleNotFoundError extends BundleError {}
/** The bundle was written in a format version that this file does not read. */
export class BundleVersionError extends BundleError {}
/** A file of the bundle does not have the SHA-256 that bundle.json records. */
export class BundleCorruptError extends BundleError {}
/** The model cannot be loaded or run. */
export class ModelError extends KdcompressError {}
/** Audio that cannot be used. */
export class AudioError extends KdcompressError {}
/** A stream was used out of order. */
export class StreamStateError extends KdcompressError {}
/** An option has a value outside its range. */
export class OptionsError extends KdcompressError {}

/** The token table of a bundle. */
export class Vocabulary {
  /** @param {string[]} symbols one an id, `<blk>` among them */
  constructor(symbols) {
    this.symbols = Object.freeze([...symbols]);
    this.blankId = symbols.indexOf(BLANK);
    if (this.blankId < 0) throw new BundleError(`${TOKENS_FILE} has no ${BLANK}; export the bundle again`);
    Object.freeze(this);
  }

  /** Parse the content of tokens.txt: one `symbol id` a line. */
  static parse(content) {
    const symbols = [];
    let lines = 0;
    for (const line of content.split(LINE_END)) {
      if (!line.split(BLANKS).join('')) continue;
      const cut = line.lastIndexOf(' ');
      const id = Number(line.slice(cut + 1));
      if (cut < 1 || !/^[0-9]+$/.test(line.slice(cut + 1)) || id in symbols) {
        throw new BundleError(`${TOKENS_FILE}: expected 'symbol id', each id once, found '${line}'; export the bundle again`);
      }
      symbols[id] = line.slice(0, cut);
      lines += 1;
    }
    if (lines !== symbols.length) throw new BundleError(`${TOKENS_FILE}: ids must run from 0 without a gap; export the bundle again`);
    return new Vocabulary(symbols);
  }

  /** Join the symbols of `ids` (no blanks among them) into text with single spaces. */
  text(ids) {
    const joined = Array.from(ids, (id) => this.symbols[id]).join('').replaceAll(WORD_SEPARATOR, ' ');
    return joined.split(BLANKS).filter(Boolean).join(' ');
  }
}

/** Greedy CTC decoding: the best label of every frame, repetitions joined, blanks dropped. States are values. */
export class GreedyDecoder {
  constructor(classes, blankId, { blankPenalty = 0 } = {}) {
    this.classes = classes;
    this.blankId = blankId;
    this.blankPenalty = blankPenalty;
    Object.freeze(this);
  }

  /** State before the first frame. */
  initState() {
    return { frame: 0, last: this.blankId, logProb: 0, tail: null };
  }

  /** State after the frames of `logProbs`, a Float32Array of T * classes values, frame by frame. */
  advance(state, logProbs) {
    const { classes, blankId } = this;
    let { frame, last, logProb } = state;
    const tokenIds = [];
    const frames = [];
    for (let start = 0; start < logProbs.length; start += classes, frame += 1) {
      let label = 0;
      let best = -Infinity;
      for (let index = 0; index < classes; index += 1) {
        const value = index === blankId ? logProbs[start + index] - this.blankPenalty : logProbs[start + index];
        if (value > best) [best, label] = [value, index];
      }
      logProb += logProbs[start + label];
      if (label !== last && label !== blankId) {
        tokenIds.push(label);
        frames.push(frame);
      }
      last = label;
    }
    const tail = tokenIds.length ? { before: state.tail, tokenIds, frames } : state.tail;
    return { frame, last, logProb, tail };
  }

  /** `{tokenIds, frames, logProb}`: the tokens so far, the first frame of each, the score of the alignment. */
  best(state) {
    const pieces = [];
    for (let piece = state.tail; piece; piece = piece.before) pieces.unshift(piece);
    return {
      tokenIds: pieces.flatMap((piece) => piece.tokenIds),
      frames: pieces.flatMap((piece) => piece.frames),
      logProb: state.logProb,
    };
  }
}

/** An opened bundle. Every read is checked against the recorded SHA-256. */
export class Bundle {
  #read;

  constructor(metadata, vocabulary, read) {
    this.metadata = metadata;
    this.vocabulary = vocabulary;
    this.#read = read;
    Object.freeze(this);
  }

  /**
   * @param {string|URL|((file: string) => Promise<Uint8Array|ArrayBuffer>)} source address of the bundle's folder, or a
   *   function that returns the content of one of its files
   * @throws {BundleError} and what derives from it
   */
  static async open(source) {
    const fetchFile = typeof source === 'function' ? source : fetcher(source);
    const document = decodeUtf8(await readFile(fetchFile, METADATA_FILE), METADATA_FILE);
    const metadata = parseMetadata(document);
    if (metadata.checksum !== undefined) await checkChecksum(document, metadata.checksum);
    const read = async (file) => {
      const expected = Object.hasOwn(metadata.files, file) ? metadata.files[file] : null;
      if (expected === null) throw new BundleError(`${METADATA_FILE} does not name '${file}'`);
      const content = await readFile(fetchFile, file);
      const found = await sha256(content);
      if (found !== expected) {
        throw new BundleCorruptError(
          `${file}: SHA-256 is ${found.slice(0, 12)}…, ${METADATA_FILE} records ${String(expected).slice(0, 12)}…; ` +
            'the file was changed or damaged: copy or export the bundle again',
        );
      }
      return content;
    };
    const vocabulary = Vocabulary.parse(decodeUtf8(await read(TOKENS_FILE), TOKENS_FILE));
    if (vocabulary.blankId !== metadata.blank_id) {
      throw new BundleError(`blank_id is ${metadata.blank_id}, but ${TOKENS_FILE} says ${vocabulary.blankId}`);
    }
    return new Bundle(metadata, vocabulary, read);
  }

  /** Content of one file, as a Uint8Array, after checking its hash. */
  read(file) {
    return this.#read(file);
  }

  /** Name of the file for `precision`; the default one when left out. */
  modelFile(precision = this.metadata.default_precision) {
    const model = this.metadata.models.find((one) => one.precision === precision);
    if (model) return model.file;
    const held = this.metadata.models.map((one) => one.precision).join(', ');
    throw new BundleError(`the bundle holds no ${precision} model; it holds: ${held}`);
  }
}

/** Turns audio into text. What belongs to one recording lives in its Stream. */
export class Recognizer {
  #model;
  #decoder;

  constructor(model, chunkFrames, blankPenalty = 0) {
    this.#model = model;
    this.#decoder = new GreedyDecoder(model.vocabulary.symbols.length, model.vocabulary.blankId, { blankPenalty });
    this.metadata = model.metadata;
    this.vocabulary = model.vocabulary;
    this.chunkFrames = chunkFrames;
    Object.freeze(this);
  }

  /**
   * @param {string|URL|Function|Bundle} source see Bundle.open
   * @param {object} ort the module onnxruntime-web
   * @param {object} [options] `precision`; `chunkFrames` a stream steps at a time; `blankPenalty` in nats; `threads`:
   *   1 unless given, null leaves `ort.env.wasm.numThreads` alone (onnxruntime-web has one setting for all its
   *   sessions, read when the first one is made; more than one thread needs a cross-origin isolated page);
   *   `sessionOptions` for onnxruntime-web, laid over ours
   * @throws {BundleError|ModelError|OptionsError}
   */
  static async open(source, ort, { precision, chunkFrames, blankPenalty = 0, threads = 1, sessionOptions = {} } = {}) {
    if (!ort?.InferenceSession || !ort?.Tensor) throw new OptionsError('the second argument must be the module onnxruntime-web');
    const bundle = source instanceof Bundle ? source : await Bundle.open(source);
    const chunk = chunkFrames ?? bundle.metadata.chunk_frames;
    if (!Number.isInteger(chunk) || chunk < 1) throw new OptionsError(`chunkFrames must be an integer of at least 1, found ${chunk}`);
    if (threads !== null && ort.env?.wasm) ort.env.wasm.numThreads = threads;
    return new Recognizer(await Model.load(bundle, ort, bundle.modelFile(precision), sessionOptions), chunk, blankPenalty);
  }

  /** Hz; audio must have this rate. */
  get sampleRate() {
    return this.metadata.input.sample_rate;
  }

  /** Open a stream for one recording. */
  createStream() {
    return new Stream(this.#model, this.#decoder, this.chunkFrames);
  }

  /**
   * Recognise a whole recording; the same answer as a stream, in larger steps.
   * @param {Float32Array} samples mono, in [-1, 1]
   * @param {number} sampleRate Hz, must be `recognizer.sampleRate`
   */
  async recognize(samples, sampleRate = this.sampleRate) {
    checkAudio(samples, sampleRate, this.sampleRate);
    const { input, lookahead_frames: lag, frame_shift_ms: shift } = this.metadata;
    const frames = Math.ceil(samples.length / input.units_per_frame) + lag + tailFrames(this.metadata);
    const step = Math.max(1, Math.min(frames, Math.floor((WHOLE_STEP_SECONDS * 1000) / shift)));
    const stream = new Stream(this.#model, this.#decoder, step);
    await stream.acceptWaveform(samples, sampleRate);
    await stream.inputFinished();
    return stream.result();
  }

  /** Free the memory of the session; nothing can be recognised afterwards. */
  async release() {
    await this.#model.release();
  }
}

/** One recording on its way through a recogniser. Calls may be made without waiting: they are worked off in order. */
export class Stream {
  #model;
  #decoder;
  #feed;
  #state;
  #work = Promise.resolve();
  #closed = false;
  #finished = false;
  #failure = null;

  constructor(model, decoder, chunkFrames) {
    this.#model = model;
    this.#decoder = decoder;
    this.#feed = model.metadata.streaming ? new ChunkFeed(model, chunkFrames) : new WholeFeed(model);
    this.#state = decoder.initState();
  }

  /** Frames that the results take into account. */
  get framesDecoded() {
    return Math.min(this.#state.frame, this.#feed.audioFrames);
  }

  /**
   * Take the next samples and decode as far as they reach; resolves when that is done.
   * @param {Float32Array} samples mono, in [-1, 1]; copied
   * @param {number} sampleRate Hz, must be the bundle's
   * @throws {AudioError|StreamStateError|ModelError}
   */
  async acceptWaveform(samples, sampleRate) {
    checkAudio(samples, sampleRate, this.#model.metadata.input.sample_rate);
    if (this.#closed) throw new StreamStateError('audio after inputFinished(); open a new stream for it');
    const copy = samples.slice();
    return this.#enqueue(() => this.#feed.accept(copy));
  }

  /** Say that no more audio comes, and decode the tail; a second call changes nothing. */
  async inputFinished() {
    const first = !this.#closed;
    this.#closed = true;
    await this.#enqueue(() => (first ? this.#feed.finish() : []));
    this.#finished = true;
  }

  /** `{text, tokens, timestamps, logProb}` so far; later audio may change it. Timestamps are in seconds. */
  partialResult() {
    if (this.#failure) throw this.#failure;
    const { tokenIds, frames, logProb } = this.#decoder.best(this.#state);
    const { symbols } = this.#model.vocabulary;
    const shift = this.#model.metadata.frame_shift_ms;
    return {
      text: this.#model.vocabulary.text(tokenIds),
      tokens: tokenIds.map((id) => symbols[id]),
      timestamps: frames.map((frame) => (Math.min(frame, Math.max(this.#feed.audioFrames - 1, 0)) * shift) / 1000),
      logProb,
    };
  }

  /** The final result, after `await inputFinished()`. */
  result() {
    if (!this.#finished && !this.#failure) {
      throw new StreamStateError('result() before inputFinished() was awaited; do that, or ask for partialResult()');
    }
    return this.partialResult();
  }

  #enqueue(pieces) {
    const work = this.#work.then(async () => {
      if (this.#failure) throw this.#failure;
      try {
        for await (const logProbs of pieces()) this.#state = this.#decoder.advance(this.#state, logProbs);
      } catch (error) {
        this.#failure = error;
        throw error;
      }
    });
    this.#work = work.catch(() => {});
    return work;
  }
}

/** Cuts audio into fixed chunks counted from its start, steps the model, undoes its lag. Yields Float32Arrays (T * C). */
class ChunkFeed {
  constructor(model, chunkFrames) {
    this.model = model;
    this.chunk = chunkFrames;
    this.size = chunkFrames * model.metadata.input.units_per_frame;
    this.states = model.initStates();
    this.pending = new Float32Array(0);
    this.received = 0;
    this.stepped = 0; // frames that came out of the model, the lag among them
    this.audioFrames = Infinity; // frames of the recording without its tail, once it has ended
  }

  async *accept(samples) {
    this.received += samples.length;
    const all = joined(this.pending, samples);
    let start = 0;
    for (; start + this.size <= all.length; start += this.size) yield await this.step(all.slice(start, start + this.size));
    this.pending = all.slice(start);
  }

  async *finish() {
    const { lookahead_frames: lag, input } = this.model.metadata;
    this.audioFrames = Math.ceil(this.received / input.units_per_frame);
    const frames = this.audioFrames && this.audioFrames + tailFrames(this.model.metadata);
    // Models speak late: behind the end they hear faint noise, so that they say all that they have heard.
    const rest = joined(this.pending, faintNoise(Math.max((frames + lag) * input.units_per_frame - this.received, 0)));
    this.pending = new Float32Array(0);
    for (let start = 0; frames && this.stepped < frames + lag; start += this.size) {
      const surplus = Math.max(this.stepped + this.chunk - frames - lag, 0);
      const padded = new Float32Array(this.size);
      padded.set(rest.subarray(start, start + this.size));
      const logProbs = await this.step(padded);
      yield logProbs.subarray(0, Math.max(logProbs.length - surplus * this.model.classes, 0));
    }
  }

  async step(samples) {
    const { logProbs, frames, states } = await this.model.step(samples, this.states);
    if (frames !== this.chunk) {
      throw new ModelError(`the model gave ${frames} frames where bundle.json promises ${this.chunk}; export the bundle again`);
    }
    this.states = states;
    const early = Math.max(this.model.metadata.lookahead_frames - this.stepped, 0);
    this.stepped += frames;
    return logProbs.subarray(early * this.model.classes);
  }
}

/** Frames of the tail behind a recording; models that take whole recordings have none. */
function tailFrames(metadata) {
  return metadata.streaming === false ? 0 : Math.ceil((TAIL_SECONDS * 1000) / metadata.frame_shift_ms);
}

/** The noise of `kdcompress_runtime/tail.py`, sample for sample. */
export function faintNoise(count) {
  const noise = new Float32Array(count);
  for (let index = 0, state = 1; index < count; index += 1) {
    state = (Math.imul(1664525, state) + 1013904223) >>> 0;
    noise[index] = ((state >>> 8) / 2 ** 23 - 1) * TAIL_AMPLITUDE;
  }
  return noise;
}

/** Collects a recording and runs it in one step, for models that take whole recordings. */
class WholeFeed {
  constructor(model) {
    this.model = model;
    this.audioFrames = Infinity; // the model decides how many
    this.pieces = [];
  }

  async *accept(samples) {
    this.pieces.push(samples);
  }

  async *finish() {
    const samples = joined(...this.pieces);
    this.pieces = [];
    if (!samples.length) return;
    const padded = new Float32Array(Math.max(samples.length, this.model.metadata.input.min_units));
    padded.set(samples);
    yield (await this.model.step(padded, {})).logProbs;
  }
}

/** One pure step over the graph. Steps of all streams take turns, since a session runs one at a time. */
class Model {
  #ort;
  #session;
  #turn = Promise.resolve();

  constructor(bundle, ort, session) {
    this.#ort = ort;
    this.#session = session;
    this.metadata = bundle.metadata;
    this.vocabulary = bundle.vocabulary;
    this.classes = bundle.vocabulary.symbols.length;
  }

  static async load(bundle, ort, file, sessionOptions) {
    const content = await bundle.read(file);
    const options = {
      executionProviders: ['wasm'],
      graphOptimizationLevel: 'all',
      enableCpuMemArena: false,
      enableMemPattern: false,
      logSeverityLevel: 4,
      ...sessionOptions,
    };
    try {
      const model = new Model(bundle, ort, await ort.InferenceSession.create(content, options));
      model.#check(file);
      return model;
    } catch (error) {
      if (error instanceof KdcompressError) throw error;
      throw new ModelError(`${file}: onnxruntime-web cannot load it (${firstLine(error)})`, { cause: error });
    }
  }

  initStates() {
    const entries = this.metadata.states.map((state) => {
      const dims = state.shape.map((size) => (size === BATCH_AXIS ? 1 : size));
      const count = dims.reduce((product, size) => product * size, 1);
      return [state.name, new this.#ort.Tensor(state.dtype, filled(state.dtype, count, state.initial), dims)];
    });
    return Object.fromEntries(entries);
  }

  /** `samples` of shape (k * units_per_frame); returns log-probabilities (T * C), T and the next states. */
  step(samples, states) {
    const work = this.#turn.then(() => this.#run(samples, states));
    this.#turn = work.catch(() => {});
    return work;
  }

  async release() {
    await this.#turn;
    await this.#session.release?.();
  }

  async #run(samples, states) {
    const input = new this.#ort.Tensor('float32', samples, [1, samples.length]);
    let outputs;
    try {
      outputs = await this.#session.run({ [this.metadata.input.name]: input, ...states });
    } catch (error) {
      throw new ModelError(`the step failed (${firstLine(error)})`, { cause: error });
    }
    const { data, dims } = outputs[LOG_PROBS];
    if (dims.length !== 3 || dims[0] !== 1 || dims[2] !== this.classes) {
      throw new ModelError(`log_probs has shape [${dims}], expected [1, T, ${this.classes}]; export the bundle again`);
    }
    if (data.some(Number.isNaN)) throw new ModelError('log_probs holds NaN; the model is damaged or overflows');
    const following = this.metadata.states.map(({ name }) => [name, outputs[NEXT + name]]);
    return { logProbs: data, frames: dims[1], states: Object.fromEntries(following) };
  }

  #check(file) {
    const names = this.metadata.states.map((state) => state.name);
    const expected = { inputNames: [this.metadata.input.name, ...names], outputNames: [LOG_PROBS, ...names.map((name) => NEXT + name)] };
    for (const [key, wanted] of Object.entries(expected)) {
      const found = [...this.#session[key]].sort().join(', ');
      if (found !== wanted.sort().join(', ')) {
        throw new ModelError(`${file} is not the graph that ${METADATA_FILE} describes: its ${key} are ${found}; export the bundle again`);
      }
    }
  }
}

function parseMetadata(content) {
  let row;
  try {
    row = JSON.parse(content);
  } catch (error) {
    throw new BundleError(`${METADATA_FILE}: not valid JSON (${error.message}); export the bundle again`, { cause: error });
  }
  if (!FORMAT_VERSIONS.includes(row?.format_version)) {
    throw new BundleVersionError(
      `${METADATA_FILE}: bundle format ${row?.format_version}, this file reads ${FORMAT_VERSIONS.join(', ')}; ` +
        'export the bundle again, it brings its own kdcompress.mjs',
    );
  }
  const metadata = { ...row, streaming: row.streaming ?? true, input: { min_units: 1, ...row.input } };
  const problem = wrongMetadata(metadata);
  if (problem) throw new BundleError(`${METADATA_FILE}: ${problem}; export the bundle again`);
  return deepFreeze(metadata);
}

function wrongMetadata({ input, states, models, files, ...row }) {
  const atLeast = (value, least) => Number.isInteger(value) && value >= least;
  if (input.kind !== 'pcm') return `input kind ${input.kind} is unknown; this file feeds pcm`;
  if (typeof input.name !== 'string') return 'input.name is missing';
  if (![input.units_per_frame, input.sample_rate, input.min_units, row.chunk_frames].every((one) => atLeast(one, 1))) {
    return 'units_per_frame, sample_rate, min_units and chunk_frames must be integers of at least 1';
  }
  if (!atLeast(row.lookahead_frames, 0) || !atLeast(row.blank_id, 0)) return 'lookahead_frames and blank_id must be integers of at least 0';
  if (!(row.frame_shift_ms > 0)) return 'frame_shift_ms must be above 0';
  if (typeof row.streaming !== 'boolean') return 'streaming must be true or false';
  if (!Array.isArray(models) || !models.length || !Array.isArray(states) || !files) return 'models, states or files are missing';
  if (!row.streaming && (states.length || row.lookahead_frames)) return 'a model for whole recordings has neither states nor look-ahead';
  for (const { name, shape, dtype, initial } of states) {
    const sizes = Array.isArray(shape) ? shape.filter((size) => size !== BATCH_AXIS) : [];
    if (!Array.isArray(shape) || sizes.length !== shape.length - 1 || !sizes.every((size) => atLeast(size, 0))) return `state ${name} has a wrong shape`;
    if (!Object.hasOwn(ARRAYS, dtype)) return `state ${name} is ${dtype}; known are ${Object.keys(ARRAYS).join(', ')}`;
    if (typeof initial !== 'number') return `state ${name} needs a number as initial value`;
  }
  return null;
}

const ARRAYS = Object.freeze({
  float16: (count, value) => new Uint16Array(count).fill(toFloat16(value)),
  float32: (count, value) => new Float32Array(count).fill(value),
  float64: (count, value) => new Float64Array(count).fill(value),
  int32: (count, value) => new Int32Array(count).fill(value),
  int64: (count, value) => new BigInt64Array(count).fill(BigInt(value)),
});

function filled(dtype, count, value) {
  return ARRAYS[dtype](count, value);
}

/** Bits of the half-precision number nearest to `value`, ties to even. */
function toFloat16(value) {
  const sign = value < 0 || Object.is(value, -0) ? 0x8000 : 0;
  const size = Math.abs(value);
  if (size >= 65520) return sign | 0x7c00;
  const exponent = Math.max(Math.floor(Math.log2(size || 1)), -14);
  const steps = size / 2 ** (exponent - 10); // 1024 to 2048, below that for subnormal numbers
  const down = Math.floor(steps);
  const odd = steps - down > 0.5 || (steps - down === 0.5 && down % 2 === 1) ? 1 : 0;
  return sign | (size < 2 ** -14 ? down + odd : ((exponent + 14) << 10) + down + odd);
}

function checkAudio(samples, sampleRate, expected) {
  if (!(samples instanceof Float32Array)) throw new AudioError('samples must be a Float32Array, mono, in [-1, 1]');
  if (sampleRate !== expected) {
    throw new AudioError(`audio of ${sampleRate} Hz, but the model takes ${expected} Hz; let an AudioContext of that sampleRate resample it`);
  }
  for (const value of samples) {
    if (!(Math.abs(value) <= LOUDEST)) throw new AudioError(`samples must be numbers in [-1, 1], found ${value}`);
  }
}

function fetcher(source) {
  const here = globalThis.document?.baseURI ?? globalThis.location?.href;
  let base;
  try {
    base = new URL(String(source), here);
  } catch (error) {
    throw new BundleError(`'${source}' is no address; give an absolute one, or a function that reads a file`, { cause: error });
  }
  if (!base.pathname.endsWith('/')) base.pathname += '/';
  return async (file) => {
    const response = await fetch(new URL(encodeURIComponent(file), base));
    if (!response.ok) throw new Error(`${response.status} ${response.statusText}`.trim());
    return response.arrayBuffer();
  };
}

async function readFile(fetchFile, file) {
  if (/[\\/]/.test(file) || file === '..') throw new BundleError(`file name '${file}' leaves the bundle`);
  let content;
  try {
    content = await fetchFile(file);
  } catch (error) {
    throw new BundleNotFoundError(`cannot read ${file} of the bundle (${firstLine(error)}); check the address`, { cause: error });
  }
  return new Uint8Array(ArrayBuffer.isView(content) ? content.buffer.slice(content.byteOffset, content.byteOffset + content.byteLength) : content);
}

/** Compare the text of bundle.json with the SHA-256 inside it, taken while zeros stood there. */
async function checkChecksum(document, expected) {
  const at = document.lastIndexOf(expected);
  const zeros = '0'.repeat(64);
  const before = new TextEncoder().encode(document.slice(0, at) + zeros + document.slice(at + zeros.length));
  if (String(expected).length !== zeros.length || (await sha256(before)) !== expected) {
    throw new BundleCorruptError(`${METADATA_FILE}: its SHA-256 is not the checksum it records; the file was changed or damaged: copy or export the bundle again`);
  }
}

async function sha256(content) {
  const subtle = globalThis.crypto?.subtle;
  if (!subtle) throw new BundleError('SHA-256 cannot be checked: browsers allow it on https:// and on localhost only');
  const digest = new Uint8Array(await subtle.digest('SHA-256', content));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, '0')).join('');
}

function decodeUtf8(content, file) {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(content);
  } catch (error) {
    throw new BundleError(`${file}: not UTF-8 text; export the bundle again`, { cause: error });
  }
}

function joined(...pieces) {
  const all = new Float32Array(pieces.reduce((sum, piece) => sum + piece.length, 0));
  let start = 0;
  for (const piece of pieces) {
    all.set(piece, start);
    start += piece.length;
  }
  return all;
}

function firstLine(error) {
  return String(error?.message ?? error).trim().split('\n')[0];
}

function deepFreeze(value) {
  if (value && typeof value === 'object') Object.values(Object.freeze(value)).forEach(deepFreeze);
  return value;
}
