// The page: loads a bundle, recognises a recording or the microphone. Nothing leaves the browser.
//   ?bundle=ADDRESS     folder of the bundle, default bundle/
//   ?precision=NAME     a model of the bundle other than its default
//   ?audio=ADDRESS      a recording to recognise at once
import * as ort from './node_modules/onnxruntime-web/dist/ort.wasm.bundle.min.mjs';

const query = new URLSearchParams(location.search);
const element = (id) => document.getElementById(id);
const state = (name) => { document.body.dataset.state = name; };

function show({ text, tokens, timestamps }, { partial = false } = {}) {
  element('text').textContent = text;
  element('tokens').replaceChildren(...tokens.map((token, index) => {
    const item = document.createElement('li');
    const time = document.createElement('time');
    time.dateTime = `PT${timestamps[index]}S`;
    time.textContent = timestamps[index].toFixed(2);
    item.append(token === '▁' ? '␣' : token, time);
    item.dataset.token = token;
    return item;
  }));
  if (partial) element('speed').textContent = '';
}

function fail(error) {
  element('problem').textContent = error.message;
  console.error(error);
  state('failed');
}

function within(action) {
  return async (...given) => {
    element('problem').textContent = '';
    try {
      await action(...given);
    } catch (error) {
      fail(error);
    }
  };
}

/** Decode a recording; the browser resamples it and its channels are averaged. */
async function decoded(content, sampleRate) {
  const audio = await new OfflineAudioContext(1, 1, sampleRate).decodeAudioData(content);
  const samples = new Float32Array(audio.length);
  for (let channel = 0; channel < audio.numberOfChannels; channel += 1) {
    audio.getChannelData(channel).forEach((value, index) => { samples[index] += value / audio.numberOfChannels; });
  }
  return samples;
}

async function recognizeRecording(recognizer, name, content) {
  state('busy');
  element('source').textContent = name;
  const samples = await decoded(content, recognizer.sampleRate);
  const start = performance.now();
  const result = await recognizer.recognize(samples);
  const seconds = (performance.now() - start) / 1000;
  show(result);
  const length = samples.length / recognizer.sampleRate;
  element('speed').textContent = `${length.toFixed(1)} s of audio in ${seconds.toFixed(2)} s, one thread`;
  state('done');
}

/** Recognise what the microphone hears until the returned function is called. */
async function listen(recognizer) {
  const media = await navigator.mediaDevices.getUserMedia({ audio: { channelCount: 1 } });
  const context = new AudioContext({ sampleRate: recognizer.sampleRate });
  await context.audioWorklet.addModule(new URL('microphone.mjs', import.meta.url));
  const stream = recognizer.createStream();
  const node = new AudioWorkletNode(context, 'samples', { numberOfOutputs: 0, channelCount: 1, channelCountMode: 'explicit' });
  node.port.onmessage = ({ data }) => {
    const before = stream.framesDecoded;
    stream.acceptWaveform(data, context.sampleRate).then(() => {
      if (stream.framesDecoded !== before) show(stream.partialResult(), { partial: true });
    }, fail);
  };
  context.createMediaStreamSource(media).connect(node);
  return async () => {
    node.port.onmessage = null;
    media.getTracks().forEach((track) => track.stop());
    await context.close();
    await stream.inputFinished();
    show(stream.result());
  };
}

function offerMicrophone(recognizer) {
  const button = element('microphone');
  let stop = null;
  button.onclick = within(async () => {
    if (stop) {
      const stopping = stop;
      stop = null;
      button.setAttribute('aria-pressed', 'false');
      button.textContent = 'Use the microphone';
      await stopping();
      state('done');
      return;
    }
    stop = await listen(recognizer);
    element('source').textContent = 'Microphone';
    button.setAttribute('aria-pressed', 'true');
    button.textContent = 'Stop listening';
    state('listening');
  });
  button.disabled = !navigator.mediaDevices?.getUserMedia;
}

await within(async () => {
  const bundle = new URL(query.get('bundle') ?? 'bundle/', location.href);
  if (!bundle.pathname.endsWith('/')) bundle.pathname += '/';
  if (bundle.origin !== location.origin) throw new Error('the bundle must come from the same server as this page');
  const script = await import(new URL('kdcompress.mjs', bundle)).catch(() => {
    throw new Error(`no web bundle at ${bundle}: export one there with kdcompress export RUN --target web`);
  });
  const recognizer = await script.Recognizer.open(bundle, ort, { precision: query.get('precision') ?? undefined });
  const { name, default_precision: usual } = recognizer.metadata;
  element('model').textContent = `Model ${name}, ${query.get('precision') ?? usual}, ${recognizer.sampleRate / 1000} kHz. Audio stays in this browser.`;
  element('file').onchange = within(async ({ target }) => {
    const [file] = target.files;
    if (file) await recognizeRecording(recognizer, file.name, await file.arrayBuffer());
  });
  element('file').disabled = false;
  offerMicrophone(recognizer);
  state('ready');
  const audio = query.get('audio');
  if (audio) {
    const response = await fetch(audio);
    if (!response.ok) throw new Error(`cannot read ${audio}: ${response.status}`);
    await recognizeRecording(recognizer, audio.split('/').pop(), await response.arrayBuffer());
  }
})();
