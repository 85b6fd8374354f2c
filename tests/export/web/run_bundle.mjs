// node run_bundle.mjs BUNDLE PACKAGES AUDIO.json: recognise recordings with onnxruntime-web, whole and as a stream.
// AUDIO.json: {"precisions": [...], "recordings": [{"file": raw little-endian float32, "rate": Hz}], "rounds": n}
import { readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { createRequire } from 'node:module';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const [bundle, packages, audio] = process.argv.slice(2);
const ort = createRequire(path.resolve(packages) + '/')('onnxruntime-web');
const { Recognizer } = await import(pathToFileURL(path.join(bundle, 'kdcompress.mjs')));
const { precisions, recordings, rounds = 0 } = JSON.parse(readFileSync(audio, 'utf8'));
const read = (file) => readFile(path.join(bundle, file));

function samplesOf(file) {
  const bytes = readFileSync(file);
  return new Float32Array(bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength));
}

/** Feed pieces of varying size without waiting for one another. */
async function streamed(recognizer, samples, rate) {
  const stream = recognizer.createStream();
  for (let start = 0, size = 1; start < samples.length; start += size, size = (size * 7) % 2000 + 1) {
    void stream.acceptWaveform(samples.subarray(start, start + size), rate);
  }
  await stream.inputFinished();
  return stream.result();
}

const answer = { version: ort.env.versions.web, precisions: {} };
const recognizers = {};
for (const precision of precisions) {
  const start = performance.now();
  const recognizer = await Recognizer.open(read, ort, { precision });
  recognizers[precision] = recognizer;
  const row = { load_ms: performance.now() - start, whole: [], streamed: [], ms: [] };
  for (const { file, rate } of recordings) {
    row.whole.push(await recognizer.recognize(samplesOf(file), rate));
    row.streamed.push(await streamed(recognizer, samplesOf(file), rate));
  }
  answer.precisions[precision] = row;
}
for (let round = 0; round < rounds; round += 1) {
  for (const { file, rate } of recordings) {
    for (const precision of precisions) {
      const start = performance.now();
      await recognizers[precision].recognize(samplesOf(file), rate);
      answer.precisions[precision].ms.push(performance.now() - start);
    }
  }
}
console.log(JSON.stringify(answer));
